"""What a step placed in another region costs: one round trip and the server's own time.

One cell, next to the home. Workers of three other regions poll it from 0, 40 and 120 ms away (a delay
proxy each). A step's cost is the slope between runs of one and of six steps in the same region, p50.
Plain temporalio does the same with an activity on a queue that a worker as far away polls, with the
same pollers. One sample of each variant in turn; every answer is checked.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.mesh_agents import (
    RTTS_MS,
    Elsewhere,
    PlainElsewhere,
    application,
    plain_at,
    plain_queue,
)
from bench.report import at_most, percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.wan import DelayProxy
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, event_loop
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Cell, Link, Offer, Region, Topology

COUNTS = (1, 6)
GOAL_BEYOND = 1.2
"""A far step beyond its round trip, over the same step next door."""

GOAL_PLAIN = 1.05
"""A step, Edgeward over plain temporalio."""

Times = dict[tuple[str, int, int], list[float]]
"""By system, distance and steps."""


def topology(address: str) -> Topology:
    """The home's region, and one for each distance; all of them in the home's cell."""
    home = Coordinates(50.1, 8.7)
    regions = [Region(name="home", coordinates=home, country="DE", cell="here")]
    links: list[Link] = []
    for rtt_ms in RTTS_MS:
        name = f"region-{rtt_ms}"
        offer = Offer(kind="tool", name=f"at-{rtt_ms}", endpoint="http://127.0.0.1:1/none")
        regions.append(Region(name=name, coordinates=home, country="DE", cell="here", offers=(offer,)))
        links.append(Link(source="home", target=name, rtt_ms=max(rtt_ms, 0.1)))
    cell = Cell(name="here", region="home", address=address, namespace="here")
    return Topology(cells=(cell,), regions=tuple(regions), links=tuple(links))


@asynccontextmanager
async def served(address: str) -> AsyncGenerator[tuple[EdgeClient, Client]]:
    """Every worker, as far from the cell as its region; and the two clients next to it."""
    known = topology(address)
    async with AsyncExitStack() as resources:
        seen = {
            rtt_ms: await resources.enter_async_context(DelayProxy(address, timedelta(milliseconds=rtt_ms)))
            for rtt_ms in RTTS_MS
        }
        workers = [RegionWorker(known, "home", application)]
        workers += [
            RegionWorker(topology(proxy.address), f"region-{rtt_ms}", application)
            for rtt_ms, proxy in seen.items()
        ]
        serving = [asyncio.create_task(worker.serve()) for worker in workers]

        async def stop() -> None:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*serving)

        resources.push_async_callback(stop)
        plain = await Client.connect(address, namespace="here", data_converter=pydantic_data_converter)
        agents = Worker(
            plain,
            task_queue="plain.agents",
            workflows=[PlainElsewhere],
            workflow_task_poller_behavior=POLLERS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        )
        await resources.enter_async_context(agents)
        for rtt_ms, proxy in seen.items():
            far = await Client.connect(
                proxy.address, namespace="here", data_converter=pydantic_data_converter
            )
            steps = Worker(
                far,
                task_queue=plain_queue(rtt_ms),
                activities=[plain_at],
                activity_task_poller_behavior=POLLERS,
            )
            await resources.enter_async_context(steps)
        edge = await resources.enter_async_context(
            await EdgeClient.connect(known, application=application, watch=False)
        )
        yield edge, plain


async def measure(samples: int) -> Times:
    server = CellServer("here", *free_ports(3))
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            await start_cell(server, supervisor)
            async with served(server.address) as (edge, plain):
                return await interleaved(edge, plain, samples)


async def interleaved(edge: EdgeClient, plain: Client, samples: int) -> Times:
    async def placed(steps: int, rtt_ms: int) -> int:
        return await edge.execute(Elsewhere.run, (steps, rtt_ms), origin="home")

    async def plainly(steps: int, rtt_ms: int) -> int:
        return await plain.execute_workflow(
            PlainElsewhere.run,
            (steps, rtt_ms),
            id=f"plain-{uuid.uuid4().hex}",
            task_queue="plain.agents",
        )

    systems: dict[str, Callable[[int, int], Awaitable[int]]] = {"edgeward": placed, "temporalio": plainly}
    times: Times = {}
    for number in range(samples + 3):
        for rtt_ms in RTTS_MS:
            for steps in COUNTS:
                for name, run in systems.items():
                    started = time.perf_counter()
                    answer = await run(steps, rtt_ms)
                    took_ms = (time.perf_counter() - started) * 1000
                    if answer != steps:
                        raise SystemExit(f"wrong answer from {name}: {answer}, not {steps}")
                    if number >= 3:  # the first ones warm connections and caches
                        times.setdefault((name, rtt_ms, steps), []).append(took_ms)
    return times


def step_ms(times: Times, name: str, rtt_ms: int) -> float:
    """What one more step costs."""
    few, many = (percentile(times[name, rtt_ms, steps], 50) for steps in COUNTS)
    return (many - few) / (COUNTS[1] - COUNTS[0])


def goals(times: Times) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    next_door = step_ms(times, "edgeward", 0)
    for rtt_ms in RTTS_MS:
        ours, theirs = (step_ms(times, name, rtt_ms) for name in ("edgeward", "temporalio"))
        if rtt_ms:
            name = (
                f"a step {rtt_ms} ms away ({ours:.1f} ms), beyond its round trip, "
                f"over one next door ({next_door:.1f} ms)"
            )
            found.append(at_most(name, (ours - rtt_ms) / next_door, GOAL_BEYOND))
        name = f"a step {rtt_ms} ms away, edgeward over temporalio ({ours:.1f} and {theirs:.1f} ms)"
        found.append(at_most(name, ours / theirs, GOAL_PLAIN))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=mesh", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=8 if quick else 40, help="runs of each variant")
    options = parser.parse_args(arguments)
    # the offers of the regions are names only: nothing answers when a worker warms them up
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with asyncio.Runner(loop_factory=event_loop) as runner:
        times = runner.run(measure(options.samples))
    results = [
        {"system": name, "rtt_ms": rtt_ms, "steps": steps, **summary(taken)}
        for (name, rtt_ms, steps), taken in sorted(times.items())
    ]
    for result in results:
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    found = goals(times)
    for goal in found:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('mesh', results, found)}")
    return 0 if all(goal["holds"] for goal in found) else 1
