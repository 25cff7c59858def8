"""The servers and runners that the bench of the peers starts; all of them end with their supervisor."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from bench.peers_environment import PYTHON, postgresql_programs, restate_server
from bench.peers_runners.protocol import STEPS
from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports, port_answers
from orchestrator.dev.temporal_server import CellServer, start_cell

CHECKOUT = Path(__file__).resolve().parent.parent
UNPRIVILEGED = Path(__file__).with_name("peers_runners") / "unprivileged.py"
READY_WITHIN = timedelta(seconds=60)
ANSWER_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class RestatePorts:
    """Where a Restate server listens."""

    ingress: int
    admin: int


class WrongAnswerError(Exception):
    """A system gave another answer than the steps make."""


class Runner:
    """A conversation with a runner: asks, checks the answer, says how long it took."""

    def __init__(
        self, process: ChildProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(
        cls, supervisor: Supervisor, name: str, module: str, *arguments: str, python: Path = PYTHON
    ) -> "Runner":
        """Start the program of a system and connect to it.

        Raises:
            StackError: It ended or was not ready in time.
        """
        [port] = free_ports(1)
        command = [str(python), "-m", f"bench.peers_runners.{module}", "--port", str(port), *arguments]
        process = await supervisor.start(
            f"runner {name}",
            command,
            environment={"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        await process.until_ready(lambda: port_answers(port), within=READY_WITHIN)
        return cls(process, *await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, number: int) -> float:
        """The milliseconds between asking and the answer, at the caller that asks.

        Raises:
            StackError: It did not answer.
            WrongAnswerError: The answer is not what the steps make of the number.
        """
        self._writer.write(f"{number}\n".encode())
        try:
            line = await asyncio.wait_for(self._reader.readline(), ANSWER_WITHIN.total_seconds())
        except TimeoutError:
            line = b""
        if not line:
            raise self._process.failure("did not answer")
        reply = json.loads(line)
        if reply["answer"] != number + STEPS:
            raise WrongAnswerError(f"{self._process.name}: {reply['answer']} instead of {number + STEPS}")
        return reply["took_ms"]


async def start_temporal(supervisor: Supervisor, folder: Path, *, on_disk: bool) -> CellServer:
    """A tuned Temporal server: its state in memory, or in a SQLite file with synced commits."""
    database = folder / "temporal.db" if on_disk else None
    server = CellServer("here", *free_ports(3), database=database)
    await start_cell(server, supervisor)
    return server


async def temporal_runner(supervisor: Supervisor, server: CellServer, system: str, caller: str) -> Runner:
    """A system on a Temporal server, and its caller.

    Args:
        supervisor: Ends it.
        server: What it runs on.
        system: ``edgeward`` or ``temporalio``.
        caller: ``apart`` from the worker, ``beside`` it, or ``early``: beside it, and content with an
            answer that the server is yet to write.
    """
    return await Runner.start(
        supervisor,
        f"{system} {caller} {server.port}",
        "on_temporal",
        *("--address", server.address, "--system", system, "--caller", caller),
        python=Path(sys.executable),
    )


async def start_restate(supervisor: Supervisor, folder: Path, *, synced: bool) -> RestatePorts:
    """A Restate server on disk, as it is shipped or without syncing its log.

    It has one partition instead of 24, which is quicker on few cores.
    """
    node, ingress, admin = free_ports(3)
    name = f"restate {ingress}"
    process = await supervisor.start(
        name,
        [
            *(str(restate_server()), "--no-logo", "--log-filter", "error", "--listen-mode", "tcp"),
            *("--bind-address", f"127.0.0.1:{node}", "--default-num-partitions", "1"),
            *("--base-dir", str(folder / name.replace(" ", "-")), "--shutdown-timeout", "1s"),
        ],
        environment={
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_LOG_SERVER__ROCKSDB_DISABLE_WAL_FSYNC": str(not synced).lower(),
            "DO_NOT_TRACK": "1",
        },
    )
    async with httpx.AsyncClient() as http:

        async def ready() -> bool:
            try:
                health = await http.get(f"http://127.0.0.1:{admin}/health")
            except httpx.HTTPError:
                return False
            return health.is_success and await port_answers(ingress)

        await process.until_ready(ready, within=READY_WITHIN)
    return RestatePorts(ingress, admin)


async def restate_runner(supervisor: Supervisor, server: RestatePorts) -> Runner:
    """The service and its caller."""
    [service] = free_ports(1)
    ports = ("--ingress-port", str(server.ingress), "--admin-port", str(server.admin))
    return await Runner.start(
        supervisor, f"restate {server.ingress}", "on_restate", "--service-port", str(service), *ports
    )


async def start_postgresql(supervisor: Supervisor, folder: Path) -> str:
    """A PostgreSQL server as it is shipped, which syncs each commit; its URL without a database."""
    [port] = free_ports(1)
    programs, data = postgresql_programs(), folder / "postgresql"
    data.mkdir()
    if os.geteuid() == 0:
        shutil.chown(data, "nobody")
    initialise = ["-D", str(data), "-U", "peers", "--auth=trust", "--no-locale", "-E", "UTF8", "--no-sync"]
    made = await supervisor.start("initdb", _unprivileged([str(programs / "initdb"), *initialise]))
    if await made.exited() != 0:
        raise made.failure("could not make a database")
    serve = ["-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    serve += ["-c", "unix_socket_directories="]
    process = await supervisor.start("postgresql", _unprivileged([str(programs / "postgres"), *serve]))
    await process.until_ready(lambda: port_answers(port), within=READY_WITHIN)
    return f"postgresql://peers@127.0.0.1:{port}"


def _unprivileged(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", str(UNPRIVILEGED), *command]
