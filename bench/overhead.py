"""What Edgeward adds to a run and to a step, against plain temporalio on the same tuned server.

One region, one server on the same machine, steps that do nothing: so nothing is timed but orchestration. Runs
have 1, 5 and 20 steps, one after the other. Edgeward's inline steps stand beside plain local activities, its
queued steps beside plain activities on a queue; the plain workers have the same pollers and sticky timeout.
The variants take turns, a run of each, and the first three rounds do not count. What a step costs is the
slope between runs of 1 and of 20 steps; the goals compare those of Edgeward with the plain ones.
"""

import argparse
import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.overhead_agents import Inline, PlainLocal, PlainQueued, Queued, application, plain_step
from bench.report import percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Cell, Region, Topology

STEPS = (1, 5, 20)
GOAL_RATIO = 1.05
"""Of a step, Edgeward over plain temporalio, p50."""

Run = Callable[[int], Awaitable[object]]


def topology(address: str) -> Topology:
    """One region, one cell: nothing but orchestration."""
    return Topology(
        cells=(Cell(name="here", region="here", address=address, namespace="here"),),
        regions=(Region(name="here", coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )


async def measure(samples: int) -> dict[tuple[str, int], list[float]]:
    port, http_port, metrics_port = free_ports(3)
    server = CellServer("here", port, http_port, metrics_port)
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            await start_cell(server, supervisor)
            return await measure_on(server.address, samples)


async def measure_on(address: str, samples: int) -> dict[tuple[str, int], list[float]]:
    known = topology(address)
    region = RegionWorker(known, "here", application)
    serving = asyncio.create_task(region.serve())
    plain = await Client.connect(address, namespace="here", data_converter=pydantic_data_converter)
    workflows = Worker(
        plain,
        task_queue="plain.agents",
        workflows=[PlainLocal, PlainQueued],
        activities=[plain_step],
        workflow_task_poller_behavior=POLLERS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    )
    steps = Worker(
        plain, task_queue="plain.code", activities=[plain_step], activity_task_poller_behavior=POLLERS
    )
    async with (
        workflows,
        steps,
        await EdgeClient.connect(known, application=application, watch=False) as edge,
    ):

        async def inline(count: int) -> object:
            return await (await edge.start(Inline.run, count, origin="here")).result()

        async def queued(count: int) -> object:
            return await (await edge.start(Queued.run, count, origin="here")).result()

        def plainly(run: Callable[..., Awaitable[int]]) -> Run:
            async def started(count: int) -> object:
                return await plain.execute_workflow(
                    run, count, id=f"plain-{uuid.uuid4().hex}", task_queue="plain.agents"
                )

            return started

        variants: dict[str, Run] = {
            "edgeward inline": inline,
            "plain local activities": plainly(PlainLocal.run),
            "edgeward queued": queued,
            "plain activities": plainly(PlainQueued.run),
        }
        times = await interleaved(variants, samples)
    region.stop()
    await serving
    return times


async def interleaved(variants: dict[str, Run], samples: int) -> dict[tuple[str, int], list[float]]:
    """One sample of each in turn, so that whatever else the machine does meets them all."""
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(samples + 3):
        for count in STEPS:
            for name, run in variants.items():
                started = time.perf_counter()
                await run(count)
                took_ms = (time.perf_counter() - started) * 1000
                if number >= 3:  # the first ones warm connections and caches
                    times.setdefault((name, count), []).append(took_ms)
    return times


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=overhead", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=20 if quick else 150, help="runs of each variant")
    options = parser.parse_args(arguments)
    times = asyncio.run(measure(options.samples))
    results = [{"variant": name, "steps": steps, **summary(taken)} for (name, steps), taken in times.items()]
    for result in results:
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    goals = [
        _goal(times, "edgeward inline", "plain local activities"),
        _goal(times, "edgeward queued", "plain activities"),
    ]
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('overhead', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1


def _goal(times: dict[tuple[str, int], list[float]], ours: str, theirs: str) -> dict[str, object]:
    """A step's cost is the slope between runs of 1 and of 20 steps."""
    slopes = [
        (percentile(times[name, STEPS[-1]], 50) - percentile(times[name, STEPS[0]], 50))
        / (STEPS[-1] - STEPS[0])
        for name in (ours, theirs)
    ]
    ratio = slopes[0] / slopes[1]
    return {
        "name": f"a step, {ours} over {theirs} ({slopes[0]:.2f} and {slopes[1]:.2f} ms)",
        "value": round(ratio, 3),
        "bound": GOAL_RATIO,
        "holds": ratio <= GOAL_RATIO,
    }
