"""The worker process of either system: ``python -m bench.load_worker SYSTEM ADDRESS CACHED_RUNS``.

Both have the same pollers, slots, sticky timeout, heartbeats, data converter and number of cached runs.
"""

import asyncio
import signal
import sys

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Worker

from bench.load_agents import PLAIN_AGENTS, PLAIN_STEPS, PlainInline, PlainQueued, application, plain_step
from orchestrator.dev.regions import PLACES, RTT_MS
from orchestrator.runtime import RegionWorker, event_loop
from orchestrator.runtime.cell_service import DRAIN, POLLERS, STICKY_TIMEOUT, slots
from orchestrator.runtime.region_worker import HEARTBEAT
from orchestrator.topology import Cell, Link, Region, Topology

HERE = "eu-central"
"""The region that has a worker; its cell and namespace are called the same."""

NOBODY = "http://127.0.0.1:9"
"""The control endpoint of the regions without a worker: port 9 is *discard*, which nothing listens on."""


def topology(address: str) -> Topology:
    """Five regions around one cell: what a plan and a receipt are about, though every step runs here.

    The worker's probes find the other four down: else a step that is slow under load would go on to one of
    them and wait there for a worker in vain.
    """
    return Topology(
        cells=(Cell(name=HERE, region=HERE, address=address, namespace=HERE),),
        regions=tuple(
            Region(
                name=name,
                coordinates=place.coordinates,
                country=place.country,
                cell=HERE,
                control=None if name == HERE else NOBODY,
                standby=(),
            )
            for name, place in PLACES.items()
        ),
        links=tuple(
            Link(source=source, target=target, rtt_ms=rtt_ms) for (source, target), rtt_ms in RTT_MS.items()
        ),
        source="the load bench",
    )


async def serve_edgeward(known: Topology, cached_runs: int) -> None:
    await RegionWorker(known, HERE, application, cached_runs=cached_runs).run()


async def serve_plain(known: Topology, cached_runs: int) -> None:
    """What an engineer who tunes plain temporalio would write: nothing of Edgeward runs in it."""
    client = await Client.connect(
        known.cell(HERE).address,
        namespace=HERE,
        data_converter=pydantic_data_converter,
        runtime=Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT),
        identity=f"plain@{HERE}",
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
    system, address, cached_runs = sys.argv[1:]
    serve = {"edgeward": serve_edgeward, "plain": serve_plain}[system]
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(serve(topology(address), int(cached_runs)))
