"""The ways to run the agent: their workers in every region, and what a user of a city calls."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.wan_agents import (
    FAR_QUEUE,
    INSTANT_MS,
    RECORDED_MS,
    Apart,
    Caller,
    Calling,
    Instant,
    Job,
    Recorded,
    Together,
    application,
    plain_step,
    served,
)
from bench.wan_places import CENTRAL, City, between_ms, topology
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.regions import PLACES
from orchestrator.dev.stack import view_from
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.wan import DelayProxy
from orchestrator.geography import Origin
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Topology

AGENTS_QUEUE = "wan.agents"
KEPT = httpx.Limits(keepalive_expiry=None)
"""A new connection would cost a round trip, so they stay open between two runs."""

SERVICE_MS = {"instant": INSTANT_MS, "recorded": RECORDED_MS}


@dataclass(frozen=True)
class Answer:
    """What a way gave for a question."""

    text: str
    network_ms: float
    """The round trips that this run needs, on paper."""

    legs: str


Ask = Callable[[str, str], Awaitable[Answer]]
"""Given the mode and the question."""


@contextlib.asynccontextmanager
async def cells(folder: Path) -> AsyncGenerator[Topology]:
    """A Temporal server in each of the regions."""
    async with Supervisor(folder) as supervisor:
        ports = free_ports(3 * len(PLACES))
        servers = {
            name: CellServer(name, *ports[3 * index : 3 * index + 3]) for index, name in enumerate(PLACES)
        }
        async with asyncio.TaskGroup() as starting:
            for server in servers.values():
                starting.create_task(start_cell(server, supervisor))
        yield topology({name: server.address for name, server in servers.items()})


@contextlib.asynccontextmanager
async def workers(known: Topology) -> AsyncGenerator[None]:
    """Every way's workers, each as far from each cell as its region is."""
    async with AsyncExitStack() as resources:
        services = await resources.enter_async_context(_central_services())
        async with AsyncExitStack() as running:
            for region in PLACES:
                seen = await resources.enter_async_context(view_from(known, _inside(region)))
                await _serve_plainly(region, seen, services, running)
                await _serve(RegionWorker(seen, region, application), running)
            yield


async def _serve_plainly(region: str, seen: Topology, services: str, running: AsyncExitStack) -> None:
    own = await _connect(seen, region)
    central = own if region == CENTRAL else await _connect(seen, CENTRAL)
    proxy = DelayProxy(services, timedelta(milliseconds=between_ms(region, CENTRAL)))
    address = (await running.enter_async_context(proxy)).address if region != CENTRAL else services
    http = await running.enter_async_context(
        httpx.AsyncClient(
            base_url=f"http://{address}", limits=httpx.Limits(keepalive_expiry=None), timeout=60
        )
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
    await running.enter_async_context(_steps(central, edge_queue(region)))
    if region == CENTRAL:
        for cell in PLACES:
            client = own if cell == CENTRAL else await _connect(seen, cell)
            await running.enter_async_context(_steps(client, FAR_QUEUE))


def _steps(client: Client, queue: str) -> Worker:
    return Worker(client, task_queue=queue, activities=[plain_step], activity_task_poller_behavior=POLLERS)


async def _serve(worker: RegionWorker, running: AsyncExitStack) -> None:
    serving = asyncio.create_task(worker.serve())

    async def stop() -> None:
        worker.stop()
        await serving

    running.push_async_callback(stop)
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
        await asyncio.sleep(0.02)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        await task


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # Ctrl-C ends the bench, and that ends this server


@contextlib.asynccontextmanager
async def caller(city: City, known: Topology) -> AsyncGenerator[dict[str, Ask]]:
    """A user's ways to ask, from a city."""
    home = city.best_region
    async with (
        view_from(known, city.origin) as seen,
        await EdgeClient.connect(seen, application=application, watch=False) as edge,
    ):
        central, near = await _connect(seen, CENTRAL), await _connect(seen, home)
        to_central_ms, to_near_ms = city.rtt_ms(CENTRAL), city.rtt_ms(home)
        apart_ms = 5 * between_ms(home, CENTRAL)

        async def a(mode: str, question: str) -> Answer:
            text = await ask_plainly(central, Together, Job(question=question, service_ms=SERVICE_MS[mode]))
            return Answer(text, to_central_ms, "1 user–centre")

        async def b(mode: str, question: str) -> Answer:
            text = await ask_plainly(near, Calling, Job(question=question, service_ms=SERVICE_MS[mode]))
            return Answer(text, to_near_ms + apart_ms, "1 user–region + 5 region–centre")

        async def b_queued(mode: str, question: str) -> Answer:
            job = Job(question=question, service_ms=SERVICE_MS[mode], steps_queue=FAR_QUEUE)
            text = await ask_plainly(near, Apart, job)
            return Answer(text, to_near_ms + apart_ms, "1 user–region + 5 region–centre")

        async def c(mode: str, question: str) -> Answer:
            job = Job(question=question, service_ms=SERVICE_MS[mode], steps_queue=edge_queue(home))
            text = await ask_plainly(central, Apart, job)
            return Answer(text, to_central_ms + apart_ms, "1 user–centre + 5 region–centre")

        async def d(mode: str, question: str) -> Answer:
            agent = Instant.run if mode == "instant" else Recorded.run
            run = edge.submit(agent, question, origin=city.origin)
            return Answer(await run.result(), city.rtt_ms(run.plan.home), "1 user–region")

        yield {"a": a, "b": b, "b queued": b_queued, "c": c, "d": d}


async def ask_plainly(client: Client, way: type, job: Job) -> str:
    """Start a run and wait for its answer in one request: half of what start and result take."""
    starting: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        way.run,
        job,
        id=f"{way.__name__}-{uuid.uuid4().hex}",
        task_queue=AGENTS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    return await client.execute_update_with_start_workflow(way.answer, start_workflow_operation=starting)


def edge_queue(region: str) -> str:
    """The queue of a region's steps in the central cell."""
    return f"wan.steps.{region}"


async def _connect(seen: Topology, cell: str) -> Client:
    address = seen.cell(cell).address
    assert address is not None
    return await Client.connect(address, namespace=cell, data_converter=pydantic_data_converter)


def _inside(region: str) -> Origin:
    return Origin(label=region, coordinates=PLACES[region].coordinates, region=region)
