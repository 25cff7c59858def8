"""What Edgeward adds to a run and to a step, against plain temporalio on the same tuned server.

One region with one cell, no service time, no distance: nothing but orchestration. Agents and workflows
are unsandboxed, every worker has the same pollers, and all of them, with the callers, share one process
on uvloop. A step's cost is the slope between runs of 1 and of 20 steps, p50; a run's the time of its
caller. Apart: the caller has a connection of its own. Beside: it shares the worker's, and runs start
eagerly. Early: it takes the answer before the server has written it. One sample of each variant in turn,
in another order each time; every answer is checked. The processor's time is that of the process, p50.
"""

import argparse
import asyncio
import logging
import os
import random
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.overhead_agents import Inline, PlainLocal, PlainQueued, Queued, application, plain_step
from bench.report import at_most, percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, event_loop
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Cell, Region, Topology

STEPS = (1, 5, 20)

PAIRS = (
    ("edgeward inline, apart", "local activities, apart"),
    ("edgeward inline, beside", "local activities, beside"),
    ("edgeward queued, apart", "activities, apart"),
)
"""Edgeward, and what plain temporalio takes for the same."""

EARLY = "edgeward inline, early"

GOAL_RATIO = 1.05
"""Of a step, Edgeward over plain temporalio, p50."""

GOAL_EARLY_MS, GOAL_DURABLE_MS = 15.0, 26.0
"""A run of five inline steps beside its worker, p50."""

Run = Callable[[int], Awaitable[object]]
Times = dict[tuple[str, int], list[float]]


def topology(address: str) -> Topology:
    """One region, one cell: nothing but orchestration."""
    return Topology(
        cells=(Cell(name="here", region="here", address=address, namespace="here"),),
        regions=(Region(name="here", coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )


async def measure(samples: int, seed: int) -> tuple[Times, Times]:
    server = CellServer("here", *free_ports(3))
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            await start_cell(server, supervisor)
            return await measure_on(server.address, samples, seed)


async def measure_on(address: str, samples: int, seed: int) -> tuple[Times, Times]:
    known = topology(address)
    async with AsyncExitStack() as resources:
        region = RegionWorker(known, "here", application)
        serving = asyncio.create_task(region.serve())

        async def stop() -> None:
            region.stop()
            await serving

        resources.push_async_callback(stop)
        while region.client("here") is None:
            await asyncio.sleep(0.02)
        worker = await plain_client(address)
        for queue, workflows in (("plain.agents", [PlainLocal, PlainQueued]), ("plain.code", [])):
            await resources.enter_async_context(plain_worker(worker, queue, workflows))
        connect = partial(EdgeClient.connect, known, application=application, watch=False)
        apart = await resources.enter_async_context(await connect())
        beside = await resources.enter_async_context(await connect(beside=region))
        caller = await plain_client(address)
        variants: dict[str, Run] = {
            "edgeward inline, apart": lambda steps: apart.execute(Inline.run, steps, origin="here"),
            "edgeward inline, beside": lambda steps: beside.execute(Inline.run, steps, origin="here"),
            EARLY: lambda steps: beside.execute(Inline.run, steps, origin="here", early=True),
            "edgeward queued, apart": lambda steps: apart.execute(Queued.run, steps, origin="here"),
            "local activities, apart": plainly(caller, PlainLocal.run),
            "local activities, beside": plainly(worker, PlainLocal.run, eager=True),
            "activities, apart": plainly(caller, PlainQueued.run),
        }
        return await interleaved(variants, samples, random.Random(seed))


async def plain_client(address: str) -> Client:
    return await Client.connect(address, namespace="here", data_converter=pydantic_data_converter)


def plain_worker(client: Client, queue: str, workflows: list[type]) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=[plain_step],
        workflow_task_poller_behavior=POLLERS,
        activity_task_poller_behavior=POLLERS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    )


def plainly(client: Client, run: Callable[..., Awaitable[int]], *, eager: bool = False) -> Run:
    async def started(steps: int) -> object:
        return await client.execute_workflow(
            run,
            steps,
            id=f"plain-{uuid.uuid4().hex}",
            task_queue="plain.agents",
            request_eager_start=eager,
        )

    return started


async def interleaved(variants: dict[str, Run], samples: int, chance: random.Random) -> tuple[Times, Times]:
    """One sample of each in turn, so that whatever else the machine does meets them all.

    Returns:
        What they took, and what they took of the processor in this process.
    """
    times: Times = {}
    processor: Times = {}
    for number in range(samples + 3):
        for steps in STEPS:
            for name in chance.sample(list(variants), len(variants)):
                started, worked = time.perf_counter(), time.process_time()
                answer = await variants[name](steps)
                took_ms = (time.perf_counter() - started) * 1000
                processor_ms = (time.process_time() - worked) * 1000
                if answer != steps:
                    raise SystemExit(f"wrong answer from {name}: {answer}, not {steps}")
                if number >= 3:  # the first ones warm connections and caches
                    times.setdefault((name, steps), []).append(took_ms)
                    processor.setdefault((name, steps), []).append(processor_ms)
    return times, processor


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=overhead", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=20 if quick else 300, help="runs of each variant")
    parser.add_argument("--seed", type=int, default=7, help="of the order of the variants")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with asyncio.Runner(loop_factory=event_loop) as runner:
        times, processor = runner.run(measure(options.samples, options.seed))
    results = [
        {
            "variant": name,
            "steps": steps,
            **summary(times[name, steps]),
            "processor_ms": round(percentile(processor[name, steps], 50), 3),
        }
        for name, steps in sorted(times)
    ]
    for result in results:
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    goals = [_step_goal(times, ours, theirs) for ours, theirs in PAIRS]
    goals.append(_caller_goal(times, "early", EARLY, GOAL_EARLY_MS))
    goals.append(_caller_goal(times, "durable", "edgeward inline, beside", GOAL_DURABLE_MS))
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('overhead', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1


def step_ms(times: Times, name: str) -> float:
    few, many = (percentile(times[name, steps], 50) for steps in (STEPS[0], STEPS[-1]))
    return (many - few) / (STEPS[-1] - STEPS[0])


def _step_goal(times: Times, ours: str, theirs: str) -> dict[str, object]:
    own_ms, other_ms = step_ms(times, ours), step_ms(times, theirs)
    return at_most(
        f"a step, {ours} over {theirs} ({own_ms:.2f} and {other_ms:.2f} ms)", own_ms / other_ms, GOAL_RATIO
    )


def _caller_goal(times: Times, what: str, variant: str, bound_ms: float) -> dict[str, object]:
    return at_most(
        f"five inline steps to the caller, {what} (p50, ms)", percentile(times[variant, 5], 50), bound_ms
    )
