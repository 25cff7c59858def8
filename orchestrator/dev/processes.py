"""Processes of the embedded stack: started, watched until ready, and ended with the stack.

They live in sessions of their own, so that Ctrl-C reaches only the stack, which ends them in
order; if the stack itself is killed, the kernel ends them (Linux).
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Self

import structlog

from orchestrator.errors import StackError

log = structlog.get_logger()

LAUNCHER = Path(__file__).with_name("launcher.py")

TAIL_LINES = 8
"""How much of a log an error shows."""

LEAST_FREE_BYTES = 300 * 1024 * 1024
"""What the stack's folder needs: the weights of a model, logs and indexes."""

PORTS = range(20_000, 32_000)
"""Where free ports are looked for: below the range from which the kernel takes ports for connections."""

FULL_DISK = ("no space left on device", "disk is full", "disk quota exceeded")
PORT_IN_USE = ("address already in use", "port is already", "couldn't bind", "can't set port")


def installed_program(name: str, remedy: str) -> str:
    """A program that a package brings: of this environment, else of the ``PATH``.

    Args:
        name: Of the program.
        remedy: What to do where there is none.

    Raises:
        StackError: There is none.
    """
    beside_python = Path(sys.executable).with_name(name)
    program = shutil.which(beside_python) or shutil.which(name)
    if program is None:
        raise StackError(f"there is no program {name} beside {sys.executable} or on PATH; {remedy}")
    return program


class ChildProcess:
    """A running program of the stack. Make it with ``start``."""

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log_file: Path, log_start: int
    ) -> None:
        self.name = name
        self.log_file = log_file
        self._process = process
        self._log_start = log_start

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a program.

        Args:
            name: What messages call it.
            command: The program (a path or a name on ``PATH``) and its arguments.
            log_file: Gets its standard output and error, after what is there already.
            environment: Variables on top of those of this process.

        Raises:
            StackError: The program does not exist or the log cannot be written.
        """
        program = shutil.which(command[0])
        if program is None:
            raise StackError(
                f"{name}: there is no program {command[0]}; install it: pip install 'edgeward[local]'"
            )
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("ab") as output:
                # before the program starts: it shares the position, and moves it when it writes
                log_start = output.seek(0, os.SEEK_END)
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-I", "-S", str(LAUNCHER), str(os.getpid()), program, *command[1:]),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
        except OSError as error:
            raise StackError(
                f"{name}: cannot start: {error.strerror} ({error.filename or log_file})"
            ) from error
        log.debug("process.started", process=name, pid=process.pid)
        return cls(name, process, log_file, log_start)

    @property
    def pid(self) -> int:
        """Its process id, which is also its group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    async def exited(self) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        return await self._process.wait()

    async def until_ready(
        self,
        ready: Callable[[], Awaitable[bool]],
        *,
        within: timedelta,
        every: timedelta = timedelta(milliseconds=50),
    ) -> None:
        """Ask until it says that it is ready.

        Args:
            ready: Asks once. ``False`` and an ``OSError`` mean: not yet.
            within: How long to go on asking.
            every: How long to wait between two questions.

        Raises:
            StackError: It ended, or was not ready in time. The message says why and ends with
                the last lines of its log.
        """

        async def ask() -> None:
            while True:
                with contextlib.suppress(OSError):
                    if await ready():
                        return
                await asyncio.sleep(every.total_seconds())

        asking = asyncio.create_task(ask())
        ending = asyncio.create_task(self.exited())
        try:
            await asyncio.wait(
                {asking, ending}, timeout=within.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
            if asking.done() and self.running:
                return asking.result()
            if ending.done():
                raise self.failure(f"ended with status {ending.result()} before it was ready")
            raise self.failure(f"was not ready within {within.total_seconds():g} s")
        finally:
            for task in (asking, ending):
                task.cancel()
            await asyncio.gather(asking, ending, return_exceptions=True)

    def failure(self, what: str) -> StackError:
        """An error that says what happened to it, why as far as its log tells, and the log's end."""
        tail = self.log_tail()
        lowered = tail.lower()
        if any(sign in lowered for sign in FULL_DISK):
            what = "the disk is full; free some space"
        elif any(sign in lowered for sign in PORT_IN_USE):
            what = "its port is in use; end the other program or choose another port"
        shown = "".join(f"\n  | {line}" for line in tail.splitlines()[-TAIL_LINES:])
        return StackError(f"{self.name}: {what}. Its log, {self.log_file}, ends with:{shown or ' nothing'}")

    def log_tail(self) -> str:
        """What it wrote last, since this start; at most 4 KiB."""
        try:
            with self.log_file.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, end - 4096))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    async def stop(self, *, grace: timedelta = timedelta(seconds=5)) -> None:
        """End it: ask with SIGTERM, and after the grace kill it and what it started."""
        try:
            if self.running:
                self._signal(signal.SIGTERM)
                await asyncio.wait_for(self._process.wait(), grace.total_seconds())
        except TimeoutError:
            log.warning("process.killed", process=self.name, pid=self.pid)
        finally:
            self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """End it and what it started, without asking and without waiting."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Supervisor:
    """Starts processes and ends them all when its context ends, however it ends.

    Args:
        logs: Folder for their logs, one file a process.
        grace: How long each may take to end before it is killed.
    """

    def __init__(self, logs: Path, *, grace: timedelta = timedelta(seconds=5)) -> None:
        self._logs = logs
        self._grace = grace
        self._processes: list[ChildProcess] = []

    @property
    def processes(self) -> tuple[ChildProcess, ...]:
        """What it started, in that order."""
        return tuple(self._processes)

    async def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Start a process; see ``ChildProcess.start``."""
        log_file = self._logs / f"{name.replace(' ', '-')}.log"
        process = await ChildProcess.start(name, command, log_file=log_file, environment=environment)
        # no await in between: a cancelled start must not leave a process that nobody knows
        self._processes.append(process)
        return process

    async def first_exit(self) -> ChildProcess:
        """Wait until one of them ends, and say which."""
        waiting = {asyncio.create_task(process.exited()): process for process in self._processes}
        if not waiting:
            return await asyncio.Future[ChildProcess]()
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return waiting[done.pop()]
        finally:
            for task in waiting:
                task.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        stopping = (process.stop(grace=self._grace) for process in self._processes)
        await asyncio.gather(*stopping, return_exceptions=True)


def default_threads() -> int:
    """Half of the cores: the models share the machine with the servers and workers.

    It matters more than it seems: the threads of llama.cpp wait for each other at every layer,
    and where one of them has to wait for a core, an answer takes ten times as long.
    """
    return max(1, (os.cpu_count() or 1) // 2)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody uses now.

    Raises:
        StackError: There are not enough.
    """
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if port_is_free(port):
            found.append(port)
    if len(found) < count:
        raise StackError(f"no {count} free ports between {PORTS.start} and {PORTS.stop}; end other programs")
    return found


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        # as servers do: a port whose last connections still wind down counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
        return True


async def port_answers(port: int) -> bool:
    """Whether somebody accepts connections on this port of 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def check_space(folder: Path, *, least_bytes: int = LEAST_FREE_BYTES) -> None:
    """Make sure that the folder exists and has room.

    Raises:
        StackError: It cannot be made, or its disk is (almost) full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StackError(f"cannot use the folder {folder}: {error.strerror}; choose another one") from error
    if free < least_bytes:
        raise StackError(
            f"no disk space: {folder} has {free // 2**20} MiB left and the stack needs "
            f"{least_bytes // 2**20} MiB; free some or choose another folder"
        )
