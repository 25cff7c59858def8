"""The workers of every way in every region, in this process, each as far from each cell as its region is."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from orchestrator.application import Application
from orchestrator.dev.processes import free_ports
from orchestrator.dev.stack import view_from
from orchestrator.dev.wan import DelayProxy
from orchestrator.dev.ways.agents import Apart, Caller, Calling, Together, application, plain_step, served
from orchestrator.errors import CellUnavailableError
from orchestrator.geography import Origin
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Topology

AGENTS_QUEUE = "ways.agents"
"""Of the plain workflows, in every cell."""

FAR_QUEUE = "ways.far-steps"
"""In every cell: steps for the worker of the central region."""

KEPT = httpx.Limits(keepalive_expiry=None)
"""A new connection would cost a round trip, so they stay open between two runs."""

LONGEST_SERVICE_S = 60.0


def edge_queue(region: str) -> str:
    """The queue of a region's steps in the central cell."""
    return f"ways.steps.{region}"


@contextlib.asynccontextmanager
async def workers(
    topology: Topology, central: str, served_by_edgeward: Application = application
) -> AsyncGenerator[None]:
    """All of them; they poll while the block runs.

    Args:
        topology: With the true addresses, a cell a region. Its namespaces get queues named
            ``ways.*`` and those of Edgeward.
        central: The region that has everything which is not near the user.
        served_by_edgeward: Agents and steps of Edgeward's own workers.

    Raises:
        CellUnavailableError: A cell does not answer.
    """
    async with AsyncExitStack() as resources:
        services = await resources.enter_async_context(_central_services())
        # the views are closed after the workers, which still speak to their cells while they stop
        async with AsyncExitStack() as running:
            for region in topology.regions:
                inside = Origin(label=region.name, coordinates=region.coordinates, region=region.name)
                seen = await resources.enter_async_context(view_from(topology, inside))
                apart_ms = 0.0 if region.name == central else topology.rtt_ms(region.name, central)
                address = services
                if apart_ms:
                    proxy = DelayProxy(services, timedelta(milliseconds=apart_ms))
                    address = (await resources.enter_async_context(proxy)).address
                await _serve_plainly(region.name, seen, central, address, running)
                # any free port for its control endpoint: the region may have another worker
                worker = RegionWorker(seen, region.name, served_by_edgeward, listen="127.0.0.1:0")
                await _serve(worker, running)
            yield


async def connected(seen: Topology, region: str) -> Client:
    """A plain client of the cell that a region's runs live in, at the distance of the view.

    Raises:
        CellUnavailableError: It does not answer.
    """
    cell = seen.cell(seen.region(region).cell)
    assert cell.address is not None
    try:
        return await Client.connect(
            cell.address, namespace=cell.namespace or "default", data_converter=pydantic_data_converter
        )
    except RuntimeError as error:
        raise CellUnavailableError(
            f"cell {cell.name} does not answer at {cell.address}: {error}; is its server running?"
        ) from error


async def _serve_plainly(
    region: str, seen: Topology, central: str, services: str, running: AsyncExitStack
) -> None:
    own = await connected(seen, region)
    centre = own if region == central else await connected(seen, central)
    http = await running.enter_async_context(
        httpx.AsyncClient(base_url=f"http://{services}", limits=KEPT, timeout=LONGEST_SERVICE_S)
    )
    # near the user: the workflows of (b); in the central region those of (a) and (c) too
    await running.enter_async_context(
        Worker(
            own,
            task_queue=AGENTS_QUEUE,
            workflows=[Together, Calling, Apart],
            activities=[plain_step, Caller(http).step],
            workflow_task_poller_behavior=POLLERS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        )
    )
    await running.enter_async_context(_steps(centre, edge_queue(region)))
    if region == central:
        for other in seen.regions:
            client = own if other.name == central else await connected(seen, other.name)
            await running.enter_async_context(_steps(client, FAR_QUEUE))


def _steps(client: Client, queue: str) -> Worker:
    return Worker(client, task_queue=queue, activities=[plain_step], activity_task_poller_behavior=POLLERS)


async def _serve(worker: RegionWorker, running: AsyncExitStack) -> None:
    serving = asyncio.create_task(worker.serve())

    async def stop() -> None:
        worker.stop()
        await serving

    running.push_async_callback(stop)
    # a worker's states are read, as its control endpoint does for others: it announces none
    while set(worker.cells().values()) != {"polling"}:
        if serving.done():
            await serving
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _central_services() -> AsyncGenerator[str]:
    """The model, the index and the tools of the central region, over HTTP."""

    async def work(request: Request) -> PlainTextResponse:
        asked = await request.json()
        return PlainTextResponse(await served(asked["name"], asked["text"], asked["service_ms"]))

    [port] = free_ports(1)
    app = Starlette(routes=[Route("/", work, methods=["POST"])])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_keep_alive=3600
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            await task
        await asyncio.sleep(0.02)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # Ctrl-C ends the command, and that ends this server
