"""The worker process of either system: ``python -m bench.load_worker SYSTEM ADDRESS PORT CACHED_RUNS``.

Both have the same pollers, slots, sticky timeout, heartbeats, data converter and number of cached runs.
"""

import asyncio
import functools
import signal
import sys

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Worker

from bench.load_agents import PLAIN_AGENTS, PLAIN_STEPS, PlainInline, PlainQueued, application, plain_step
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, cell_service
from orchestrator.runtime.cell_service import DRAIN, POLLERS, STICKY_TIMEOUT, slots
from orchestrator.runtime.region_worker import HEARTBEAT
from orchestrator.topology import Cell, Region, Topology

HERE = "here"
"""The one region, its cell and its namespace."""


def topology(address: str, control_port: int) -> Topology:
    """One region, one cell: nothing but orchestration."""
    return Topology(
        cells=(Cell(name=HERE, region=HERE, address=address, namespace=HERE),),
        regions=(
            Region(
                name=HERE,
                coordinates=Coordinates(50.1, 8.7),
                country="DE",
                cell=HERE,
                control=f"http://127.0.0.1:{control_port}",
            ),
        ),
        source="the load bench",
    )


async def serve_edgeward(known: Topology, cached_runs: int) -> None:
    # the region's worker leaves the number of cached runs to the SDK, which takes a thousand
    cell_service.Worker = functools.partial(Worker, max_cached_workflows=cached_runs)
    await RegionWorker(known, HERE, application).run()


async def serve_plain(known: Topology, cached_runs: int) -> None:
    """What an engineer who tunes plain temporalio would write: nothing of Edgeward runs in it."""
    client = await Client.connect(
        known.cell(HERE).address,
        namespace=HERE,
        data_converter=pydantic_data_converter,
        runtime=Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT),
        identity="plain@here",
    )
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    agents = Worker(
        client,
        task_queue=PLAIN_AGENTS,
        workflows=[PlainInline, PlainQueued],
        activities=[plain_step],
        max_cached_workflows=cached_runs,
        workflow_task_poller_behavior=POLLERS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        graceful_shutdown_timeout=DRAIN,
    )
    steps = Worker(
        client,
        task_queue=PLAIN_STEPS,
        activities=[plain_step],
        max_concurrent_activities=slots(known.region(HERE), "code"),
        activity_task_poller_behavior=POLLERS,
        graceful_shutdown_timeout=DRAIN,
    )
    async with agents, steps:
        await stopping.wait()


if __name__ == "__main__":
    system, address, control_port, cached_runs = sys.argv[1:]
    serve = {"edgeward": serve_edgeward, "plain": serve_plain}[system]
    asyncio.run(serve(topology(address, int(control_port)), int(cached_runs)))
