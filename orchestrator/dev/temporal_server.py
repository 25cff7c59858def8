"""Real Temporal servers, one a cell: the development server of Temporal's own command line tool."""

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.dev.processes import ChildProcess, Supervisor, check_space, installed_program, port_answers
from orchestrator.dispatch.visibility.registration import register_attributes
from orchestrator.errors import CellUnavailableError

READY_WITHIN = timedelta(seconds=60)

DYNAMIC_CONFIGURATION: dict[str, int | bool | str] = {
    # The development server loads 20 tasks a second from its one shard unless told otherwise:
    # every hop of a run would wait for the next 50 ms.
    "history.transferProcessorMaxPollRPS": 5000,
    "history.timerProcessorMaxPollRPS": 5000,
    "history.visibilityProcessorMaxPollRPS": 5000,
    "history.outboundProcessorMaxPollRPS": 5000,
    # No timer ends sooner than this after it began. It is a second unless told otherwise: too long for a
    # second dispatch after a p95, and for the first retries of a step.
    "history.timerProcessorMaxTimeShift": "10ms",
    # Where steps wait for a slot, tenants take turns (``EdgeClient.start(tenant=...)``).
    "matching.enableFairness": True,
    # A queue has four partitions unless told otherwise, and who polls takes from one of them: where a region
    # has few slots, steps overtake each other. At five times the capacity of four slots, the slowest percent
    # of the accepted runs took 12 and 15 s so, and with one partition 6 s, which is what the queue's length
    # says (bench ``overload``, two runs each).
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # What the server says of a queue's length is five seconds old unless told otherwise, and the fleet reads
    # it every five.
    "matching.TaskQueueInfoByBuildIdTTL": "1s",
}

DATABASE_PRAGMAS = {
    # A run of five inline steps is then synced to the disk 8 times instead of 32, counted with
    # strace; nothing that was acknowledged is lost with the power either way.
    "journal_mode": "wal",
    "synchronous": "full",
}


@dataclass(frozen=True, slots=True)
class CellServer:
    """What the server of one cell is started with."""

    name: str
    """The cell's name, which is its namespace too."""

    port: int
    """Where it speaks gRPC, on 127.0.0.1."""

    http_port: int
    metrics_port: int
    ui_port: int | None = None
    """Where its web UI is; ``None``: nowhere."""

    database: Path | None = None
    """SQLite file that keeps its histories, each answer synced to the disk; ``None``: they end with it."""

    registered: bool = True
    """Whether it knows the search attributes of Edgeward's runs, as after ``edgeward setup``."""

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def ui(self) -> str | None:
        """Where people look at its runs."""
        if self.ui_port is None:
            return None
        return f"http://127.0.0.1:{self.ui_port}/namespaces/{self.name}/workflows"


def temporal_program() -> str:
    """The ``temporal`` program: of this environment, else of the ``PATH``.

    Raises:
        StackError: There is none.
    """
    return installed_program("temporal", "install it: pip install 'edgeward[local]'")


async def start_cell(server: CellServer, supervisor: Supervisor) -> ChildProcess:
    """Start the server of one cell and wait until its namespace can be used.

    Raises:
        StackError: It cannot start: a missing program, a port in use, a full disk. The message
            says which, and ends with the last lines of its log.
    """
    if server.database is not None:
        check_space(server.database.parent)
    process = await supervisor.start(
        f"cell {server.name}", command(server), environment={"TEMPORAL_CONFIG_FILE": os.devnull}
    )

    async def ready() -> bool:
        return await port_answers(server.port) and await _namespace_answers(server)

    await process.until_ready(ready, within=READY_WITHIN)
    return process


def command(server: CellServer) -> list[str]:
    """The command line that serves a cell."""
    line = [temporal_program(), "server", "start-dev", "--ip", "127.0.0.1", "--log-level", "error"]
    line += ["--namespace", server.name, "--port", str(server.port)]
    line += ["--http-port", str(server.http_port), "--metrics-port", str(server.metrics_port)]
    if server.ui_port is None:
        line += ["--headless"]
    else:
        line += ["--ui-port", str(server.ui_port), "--ui-disable-news-fetch"]
    if server.database is not None:
        line += ["--db-filename", str(server.database)]
        for key, value in DATABASE_PRAGMAS.items():
            line += ["--sqlite-pragma", f"{key}={value}"]
    for key, value in DYNAMIC_CONFIGURATION.items():
        line += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
    return line


async def _namespace_answers(server: CellServer) -> bool:
    try:
        client = await Client.connect(server.address, namespace=server.name)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=server.name))
        if server.registered:
            # not by --search-attribute: that does nothing for a database which is there already
            await register_attributes(client)
    except (RPCError, RuntimeError, CellUnavailableError):
        # RuntimeError: what the SDK raises where nobody answers
        return False
    return True
