"""The folder of an embedded stack: one stack at a time, and how other commands find the one that runs."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ValidationError

from orchestrator.errors import StackError


class RunningStack(BaseModel):
    """What ``stack.json`` says."""

    pid: int
    topology: Path
    """The topology file with the true addresses."""

    regions: tuple[str, ...]
    app: str | None = None
    """What its workers run, as ``module:attribute``."""

    started: datetime


@dataclass(frozen=True, slots=True)
class StackFolder:
    """Where a stack keeps its files."""

    directory: Path

    @property
    def path(self) -> Path:
        """The folder, absolute: workers run in their own."""
        return self.directory.absolute()

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.path / "logs"

    @property
    def topology(self) -> Path:
        """The topology with the true addresses."""
        return self.path / "topology.toml"

    @property
    def state(self) -> Path:
        """Who runs here."""
        return self.path / "stack.json"

    def view(self, region: str) -> Path:
        """The topology as a region's worker sees it."""
        return self.path / f"topology-{region}.toml"

    @contextlib.contextmanager
    def taken(self) -> Generator[None]:
        """Keep the folder for one stack; the system gives it back when the process ends, however.

        Raises:
            StackError: A stack runs in it, or it cannot be written.
        """
        try:
            # not truncated: another stack may have it
            file = (self.path / "lock").open("a")
        except OSError as error:
            raise StackError(
                f"cannot write to {self.path}: {error.strerror}; choose another folder"
            ) from error
        with file:
            # somebody who only looks whether a stack runs has it for a moment
            if not any(_lock(file, wait_s=0.02) for _ in range(5)):
                raise StackError(
                    f"a stack runs in {self.path} already; use that one with `edgeward run`, end it with "
                    "Ctrl-C where it runs, or choose another folder"
                )
            self.state.unlink(missing_ok=True)
            shutil.rmtree(self.logs, ignore_errors=True)
            try:
                yield
            finally:
                self.state.unlink(missing_ok=True)

    def write_state(self, regions: Sequence[str], app: str | None) -> None:
        """Let other commands find this stack.

        Raises:
            StackError: It cannot be written.
        """
        state = RunningStack(
            pid=os.getpid(),
            topology=self.topology,
            regions=tuple(regions),
            app=app,
            started=datetime.now(UTC),
        )
        unfinished = self.path / ".stack.json.new"
        try:
            unfinished.write_text(
                json.dumps(state.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8"
            )
            unfinished.replace(self.state)
        except OSError as error:
            raise StackError(f"cannot write {self.state}: {error.strerror}; free some space") from error


def running_stack(directory: Path) -> RunningStack:
    """The stack that runs in a folder.

    Raises:
        StackError: None does, or it is still starting.
    """
    folder = StackFolder(directory)
    nobody = StackError(f"no stack runs in {folder.path}; start one with `edgeward up`")
    try:
        with (folder.path / "lock").open() as file:
            if _lock(file):
                raise nobody
    except OSError:
        raise nobody from None
    try:
        return RunningStack.model_validate_json(folder.state.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        raise StackError(f"the stack in {folder.path} is still starting; wait until it is ready") from None


def _lock(file: IO[str], *, wait_s: float = 0.0) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(wait_s)
        return False
    return True
