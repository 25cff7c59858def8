"""The fleet as processes: servers of cells, workers of regions, their services, and the ledger."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import httpx
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from bench.chaos import clock, doubles
from bench.chaos.agents import application
from bench.chaos.disk import SmallDisk
from bench.chaos.ledger import ADDRESS
from bench.chaos.network import Network
from bench.chaos.places import CENTRAL, COUNTRY, FAR, HOME, WEST, fleet_topology
from orchestrator import EdgeClient
from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports, port_answers
from orchestrator.dev.temporal_server import CellServer, command
from orchestrator.dev.topology_file import write_topology
from orchestrator.topology import Topology

APPLICATION = "bench.chaos.agents:application"
READY_WITHIN = timedelta(seconds=90)
CLOCK = "clock"
"""The file that says how wrong the clock of a region's second worker process is."""

WORKERS = {FAR: 2}
"""Processes of a region that has more than one."""


@dataclass(frozen=True)
class Shape:
    """What differs between fleets."""

    slots: int = 64
    """Requests that each model and tool serves at a time."""

    small_disk: str | None = None
    """The cell whose database is on a disk that can be filled."""


PLAIN = Shape()


@dataclass
class WorkerProcess:
    """One process of a region's worker, and what it is started with."""

    region: str
    number: int
    line: list[str]
    variables: Mapping[str, str]
    control: str
    process: ChildProcess | None = None

    @property
    def name(self) -> str:
        return f"worker {self.region} {self.number}"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.running


@dataclass
class Fleet:
    """A running fleet. Make it with ``running``.

    Attributes:
        client: Of a gateway in the region of most users.
        ledger: The ledger's URL.
        services: URL of the models and tools.
    """

    shape: Shape
    supervisor: Supervisor
    topology: Topology
    network: Network
    client: EdgeClient
    ledger: str
    services: str
    clock_file: Path
    disk: SmallDisk | None
    cells: Mapping[str, CellServer]
    workers: list[WorkerProcess]
    servers: dict[str, ChildProcess] = field(default_factory=dict[str, ChildProcess])

    async def start_cell(self, name: str) -> None:
        """Start a cell's server, from its file if it has run before, and wait until it answers."""
        server = self.cells[name]
        line = command(server)
        if self.disk is not None and self.shape.small_disk == name:
            line = self.disk.inside(line)
        process = await self.supervisor.start(
            f"cell {name}", line, environment={"TEMPORAL_CONFIG_FILE": os.devnull}
        )
        self.servers[name] = process

        async def ready() -> bool:
            return await port_answers(server.port) and await _answers(server)

        await process.until_ready(ready, within=READY_WITHIN)

    async def end_cell(self, name: str, *, kill: bool) -> None:
        """SIGKILL, or SIGTERM and wait."""
        process = self.servers[name]
        if kill:
            process.kill()
            await process.exited()
        else:
            await process.stop()

    def of(self, region: str) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker.region == region]

    async def start_worker(self, worker: WorkerProcess, *, wait: bool = True) -> None:
        """Start a worker that does not run, and wait until it polls every cell that is up."""
        process = await self.supervisor.start(worker.name, worker.line, environment=worker.variables)
        worker.process = process
        if wait:
            await process.until_ready(lambda: self._serves(worker), within=READY_WITHIN)

    async def _serves(self, worker: WorkerProcess) -> bool:
        up = {name for name, server in self.servers.items() if server.running}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                answer = await http.get(f"{worker.control}/readyz")
        except httpx.HTTPError:
            return False
        states: dict[str, str] = answer.json().get("cells", {}) if answer.is_success else {}
        return bool(states) and all(states.get(cell) == "polling" for cell in up)

    async def kill_worker(self, worker: WorkerProcess) -> None:
        """SIGKILL, and wait until it is gone."""
        assert worker.process is not None
        worker.process.kill()
        await worker.process.exited()

    async def roll_worker(self, worker: WorkerProcess) -> None:
        """SIGTERM, wait until it has drained, start it again: what a deployment does."""
        assert worker.process is not None
        os.kill(worker.process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(READY_WITHIN.total_seconds()):
                await worker.process.exited()
        finally:
            worker.process.kill()
        await self.start_worker(worker)

    async def until_whole(self) -> None:
        """Start what does not run, tell all services to be well, and wait until the client sees it."""
        for name, server in self.servers.items():
            if not server.running:
                await self.start_cell(name)
        for region in COUNTRY:
            await doubles.tell(self.services, region)
        await asyncio.gather(*(self.start_worker(worker) for worker in self.workers if not worker.alive))
        for worker in self.workers:  # those whose cell was away poll again
            assert worker.process is not None
            await worker.process.until_ready(lambda worker=worker: self._serves(worker), within=READY_WITHIN)
        await self._until_seen()

    async def _until_seen(self) -> None:
        fleet = self.client.fleet
        assert fleet is not None
        async with asyncio.timeout(READY_WITHIN.total_seconds()):
            while True:
                view = fleet.view()
                states = [*view.region_states().values(), *view.cell_states().values()]
                if set(states) == {"up"}:
                    return
                await asyncio.sleep(0.1)  # nothing tells of a reading


@asynccontextmanager
async def running(shape: Shape, folder: Path) -> AsyncGenerator[Fleet]:
    """A whole fleet; everything ends with the block, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as resources:
        supervisor = Supervisor(folder / "logs", grace=timedelta(seconds=3))
        ports = iter(free_ports(2 + 3 * 2 + len(COUNTRY) + sum(WORKERS.values())))
        ledger = f"http://127.0.0.1:{next(ports)}"
        services = f"http://127.0.0.1:{next(ports)}"
        small = folder / "disk"
        cells = {
            name: CellServer(
                name,
                next(ports),
                next(ports),
                next(ports),
                database=(small if shape.small_disk == name else folder) / f"{name}.db",
            )
            for name in (CENTRAL, WEST)
        }
        controls = {region: f"http://127.0.0.1:{next(ports)}" for region in COUNTRY}
        topology = fleet_topology(
            {name: cell.address for name, cell in cells.items()}, controls, services, shape.slots
        )
        network = Network(topology)
        # the views end after the workers, which still speak to their cells while they drain
        views = {
            region: await resources.enter_async_context(network.view(region, worker=True))
            for region in COUNTRY
        }
        seen = await resources.enter_async_context(network.view(HOME, worker=False))
        await resources.enter_async_context(supervisor)
        disk = await SmallDisk.make(small, supervisor) if shape.small_disk else None
        workers = [
            _worker(views[region], region, number, folder, ledger, next(ports) if number else None)
            for region in COUNTRY
            for number in range(WORKERS.get(region, 1))
        ]
        fleet = Fleet(
            shape=shape,
            supervisor=supervisor,
            topology=topology,
            network=network,
            client=await _client(seen),
            ledger=ledger,
            services=services,
            clock_file=folder / CLOCK,
            disk=disk,
            cells=cells,
            workers=workers,
        )
        await resources.enter_async_context(fleet.client)
        await asyncio.gather(
            _start_service(supervisor, "ledger", "bench.chaos.ledger", ledger),
            _start_service(
                supervisor, "services", "bench.chaos.doubles", services, "--slots", str(shape.slots)
            ),
            *(fleet.start_cell(name) for name in cells),
        )
        await asyncio.gather(*(fleet.start_worker(worker) for worker in workers))
        await fleet.until_whole()
        yield fleet


async def _client(seen: Topology) -> EdgeClient:
    return await EdgeClient.connect(seen, application=application, viewpoint=HOME)


def _worker(
    view: Topology, region: str, number: int, folder: Path, ledger: str, port: int | None
) -> WorkerProcess:
    file = write_topology(view, folder / f"{region}.toml")
    line = [sys.executable, "-m", "orchestrator.cli", "worker", "run", APPLICATION]
    line += ["--region", region, "--topology", str(file), "--log-format", "json"]
    control = view.region(region).control or ""
    variables = {ADDRESS: ledger}
    if port is not None:
        # the second process of a region is the one whose clock jumps
        line += ["--listen", f"127.0.0.1:{port}"]
        control = f"http://127.0.0.1:{port}"
        variables.update(clock.environment(folder / CLOCK))
        line = clock.command(line)
    return WorkerProcess(region, number, line, variables, control)


async def _start_service(supervisor: Supervisor, name: str, module: str, url: str, *more: str) -> None:
    port = int(url.rpartition(":")[2])
    process = await supervisor.start(name, [sys.executable, "-m", module, "--port", str(port), *more])
    await process.until_ready(lambda: port_answers(port), within=READY_WITHIN)


async def _answers(server: CellServer) -> bool:
    try:
        client = await Client.connect(server.address, namespace=server.name)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=server.name))
    except (RPCError, RuntimeError):
        return False
    return True
