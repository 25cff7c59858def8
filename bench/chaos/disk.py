"""A small disk for one cell, that can be filled up: a tmpfs in a mount namespace of its own.

A process that does nothing holds the namespace, and with it the disk: both end with the harness,
whatever ends it, and no mount is left behind. No privileges are needed where the kernel allows user
namespaces (``unshare --map-root-user --mount``).
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

from orchestrator.dev.processes import LAUNCHER, ChildProcess, Supervisor

SIZE_MIB = 96
"""Many times what the histories of a scenario need."""

BLOCK = b"\0" * (1 << 16)


class SmallDisk:
    """A file system that only the processes started with ``inside`` see.

    Args:
        holder: The process that holds the namespace.
        folder: Where it is mounted.
    """

    def __init__(self, holder: ChildProcess, folder: Path) -> None:
        self._holder = holder
        self.folder = folder

    @classmethod
    async def make(cls, folder: Path, supervisor: Supervisor) -> Self:
        """Mount it.

        Raises:
            StackError: The system allows no user namespaces, or has no ``unshare``.
        """
        folder.mkdir(parents=True, exist_ok=True)
        script = f'mount -t tmpfs -o size={SIZE_MIB}m tmpfs "$0" && echo mounted && exec "$@"'
        holder = await supervisor.start(
            "disk",
            [
                *("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(folder)),
                *_dying_with_us(["sleep", "infinity"]),
            ],
        )

        async def mounted() -> bool:
            return "mounted" in holder.log_tail()

        await holder.until_ready(mounted, within=timedelta(seconds=10))
        return cls(holder, folder)

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command line of a process that shall see the disk."""
        enter = ["nsenter", "--target", str(self._holder.pid)]
        return [*enter, "--user", "--mount", "--preserve-credentials", *_dying_with_us(command)]

    def fill(self) -> None:
        """Leave no byte free: the next write of a database fails with "no space left on device"."""
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while True:
                filler.write(BLOCK)

    def empty(self) -> None:
        """Free what ``fill`` took."""
        self._filler.unlink(missing_ok=True)

    @property
    def _filler(self) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{self.folder}/filler")


def _dying_with_us(command: Sequence[str]) -> list[str]:
    """The command, which asks once more to die with this process: in a new namespace that is forgotten."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]
