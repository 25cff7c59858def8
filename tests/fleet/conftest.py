"""Two real cells for the session, and a control endpoint that a test holds in its hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.fleet import WorkerStatus

INTERVAL = timedelta(milliseconds=200)


async def eventually(condition: Callable[[], object], within: timedelta = timedelta(seconds=30)) -> None:
    """Wait until the condition holds; fail with its source line if it does not in time."""
    try:
        async with asyncio.timeout(within.total_seconds()):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"did not come true within {within}") from None


@pytest.fixture(scope="session")
def heartbeat_runtime() -> Runtime:
    """Workers on it beat every second, the shortest that Temporal has."""
    return Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1))


@dataclass
class Cells:
    servers: dict[str, CellServer]
    clients: dict[str, Client]


@pytest.fixture(scope="session")
async def cells(heartbeat_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cells]:
    ports = free_ports(6)
    servers = {
        name: CellServer(name, *ports[at : at + 3]) for name, at in (("east-cell", 0), ("west-cell", 3))
    }
    async with Supervisor(tmp_path_factory.mktemp("cells")) as supervisor:
        for server in servers.values():
            await start_cell(server, supervisor)
        yield Cells(
            servers,
            {
                name: await Client.connect(server.address, namespace=name, runtime=heartbeat_runtime)
                for name, server in servers.items()
            },
        )


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    async with Supervisor(tmp_path / "logs") as supervisor:
        yield supervisor


@dataclass
class Endpoint:
    """A worker's control endpoint: says what ``status`` holds, or whatever ``answer`` makes of it."""

    status: WorkerStatus
    port: int
    answer: Callable[[], Response] | None = None
    asked: int = 0
    connections: list[tuple[str, int]] = field(default_factory=list)
    """What was asked for, and the port from which."""

    silent: asyncio.Event | None = None
    """While set to an event, requests wait for it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def tell(self, request: Request) -> Response:
        self.asked += 1
        assert request.client is not None
        self.connections.append((request.url.path, request.client.port))
        if self.silent is not None:
            await self.silent.wait()
        if request.url.path == "/healthz":
            return PlainTextResponse("ok")
        if self.answer is not None:
            return self.answer()
        return Response(self.status.model_dump_json(), media_type="application/json")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Endpoint"]:
        routes = [Route("/status", self.tell), Route("/healthz", self.tell)]
        server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=routes), port=self.port, log_level="error", timeout_graceful_shutdown=1
            )
        )
        serving = asyncio.create_task(server.serve())
        await eventually(lambda: server.started or serving.done())
        try:
            yield self
        finally:
            if self.silent is not None:
                self.silent.set()
            server.should_exit = True
            await serving


@pytest.fixture
def endpoint() -> Endpoint:
    """Of region ``west``; serve it with ``async with endpoint.serving()``."""
    return Endpoint(WorkerStatus(region="west"), free_ports(1)[0])
