"""Pollers, timeouts and slots of a worker: what each choice costs, in a near cell and in a far one."""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import structlog
from temporalio.worker import PollerBehavior, PollerBehaviorSimpleMaximum

from bench.overhead_agents import Inline, Queued
from bench.report import percentile, summary, write
from bench.tuning_agents import BACKEND_MS, BACKEND_SLOTS, Asking, application
from bench.tuning_kills import kills
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.wan import DelayProxy
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, cell_service
from orchestrator.topology import Cell, Offer, Region, Topology

FAR = timedelta(milliseconds=100)
"""Round trip between the far worker and its cell. The client stands next to the cell."""

STEPS = 5
CONCURRENCY = (1, 32)

POLLERS: dict[str, PollerBehavior] = {
    "5 fixed": PollerBehaviorSimpleMaximum(5),
    "20 fixed": PollerBehaviorSimpleMaximum(20),
    "autoscaling": cell_service.POLLERS,
}
"""The SDK's own, more of them, and Edgeward's."""

AGENTS = {"inline": Inline, "queued": Queued}

RUNS = {1: 10, 32: 96}
"""Of each variant in a round, by its concurrency."""

SLOT_RUNS = 32

PARTS = ("pollers", "slots", "kills")

Run = Callable[[], Awaitable[object]]


def topology(address: str, control: str, slots: int = 100) -> Topology:
    backend = Offer(kind="model", name="backend", endpoint="http://127.0.0.1:1/v1", slots=slots)
    here = Region(
        name="here",
        coordinates=Coordinates(50.1, 8.7),
        country="DE",
        cell="here",
        control=control,
        offers=(backend,),
    )
    return Topology(
        cells=(Cell(name="here", region="here", address=address, namespace="here"),), regions=(here,)
    )


@contextmanager
def pollers(behaviour: PollerBehavior) -> Iterator[None]:
    """Workers that are made in this block poll like this."""
    before = cell_service.POLLERS
    cell_service.POLLERS = behaviour
    try:
        yield
    finally:
        cell_service.POLLERS = before


@asynccontextmanager
async def serving(known: Topology) -> AsyncGenerator[None]:
    """A worker, ready."""
    worker = RegionWorker(known, "here", application)
    running = asyncio.create_task(worker.serve())
    try:
        async with httpx.AsyncClient(base_url=known.region("here").control or "") as http:
            async with asyncio.timeout(60):
                while not await _is_ready(http):
                    await asyncio.sleep(0.02)
        yield
    finally:
        worker.stop()
        await running


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).is_success
    except httpx.HTTPError:
        return False


async def timed(count: int, concurrency: int, run: Run) -> tuple[list[float], float]:
    """What each run took in milliseconds, and how many ended in a second."""
    times: list[float] = []
    left = iter(range(count))
    began = time.perf_counter()

    async def one_after_another() -> None:
        for _ in left:
            started = time.perf_counter()
            await run()
            times.append((time.perf_counter() - started) * 1000)

    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    return times, len(times) / (time.perf_counter() - began)


async def measure_pollers(near: str, far: str, client: EdgeClient, rounds: int) -> list[dict[str, Any]]:
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    taken: dict[tuple[str, str, str, int], tuple[list[float], list[float]]] = {}
    for _ in range(rounds):
        for place, address in (("near", near), ("far", far)):
            for name, behaviour in POLLERS.items():
                with pollers(behaviour):
                    async with serving(topology(address, control)):
                        for agent in AGENTS:
                            for concurrency in CONCURRENCY:
                                key = (place, agent, name, concurrency)
                                times, rate = taken.setdefault(key, ([], []))
                                more, per_second = await timed(
                                    RUNS[concurrency], concurrency, _run(client, agent)
                                )
                                print(
                                    f"{place} {agent} {name} x{concurrency}: {percentile(more, 50):.0f} ms, "
                                    f"{per_second:.1f} runs/s",
                                    file=sys.stderr,
                                )
                                times += more
                                rate.append(per_second)
    return [
        {
            "what": "pollers",
            "cell": place,
            "agent": agent,
            "pollers": name,
            "concurrency": concurrency,
            **summary(times),
            "runs_per_s": round(sum(rate) / len(rate), 1),
        }
        for (place, agent, name, concurrency), (times, rate) in sorted(
            taken.items(), key=lambda item: (item[0][0], item[0][1], item[0][3])
        )
    ]


def _run(client: EdgeClient, agent: str) -> Run:
    async def run() -> None:
        answer = await (await client.start(AGENTS[agent].run, STEPS, origin="here")).result()
        assert answer == STEPS, f"{agent} answered {answer}"

    return run


async def measure_slots(address: str, client: EdgeClient, runs: int) -> list[dict[str, Any]]:
    """Steps that wait for a backend which serves eight at a time, by the slots of their queue."""
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    results: list[dict[str, Any]] = []
    for slots in (BACKEND_SLOTS, 100):
        async with serving(topology(address, control, slots)):
            began = time.perf_counter()
            started = await asyncio.gather(
                *(client.start(Asking.run, number, origin="here") for number in range(runs))
            )
            bodies_ms = await asyncio.gather(*(run.result() for run in started))
            assert min(bodies_ms) >= BACKEND_MS, f"a step took {min(bodies_ms)} ms"
            results.append(
                {
                    "what": "slots",
                    "slots": slots,
                    "body_p50_ms": round(percentile(bodies_ms, 50)),
                    "body_p99_ms": round(percentile(bodies_ms, 99)),
                    "runs_per_s": round(runs / (time.perf_counter() - began), 1),
                    "n": runs,
                }
            )
    return results


async def measure(parts: Sequence[str], rounds: int, kill_rounds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    port, http_port, metrics_port = free_ports(3)
    server = CellServer("here", port, http_port, metrics_port)
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            await start_cell(server, supervisor)
            async with (
                DelayProxy(server.address, FAR) as far,
                await EdgeClient.connect(
                    topology(server.address, "http://127.0.0.1:1"),
                    application=application,
                    watch=False,
                    admission=False,  # bad settings are measured as well, where runs hardly end
                ) as client,
            ):
                if "pollers" in parts:
                    found += await measure_pollers(server.address, far.address, client, rounds)
                if "slots" in parts:
                    found += await measure_slots(server.address, client, SLOT_RUNS)
            if "kills" in parts:
                found += await kills(server.address, Path(folder), kill_rounds)
    return found


def table(results: list[dict[str, Any]]) -> None:
    what = ""
    for result in results:
        if result["what"] != what:
            what = result["what"]
            print(f"\n{what}")
        print("  ".join(f"{key} {value}" for key, value in result.items() if key != "what"))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=tuning", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=1 if quick else 2, help="of each poller behaviour")
    parser.add_argument("--kills", type=int, default=1 if quick else 3, help="workers killed of each kind")
    parser.add_argument("--only", choices=PARTS, help="one part")
    options = parser.parse_args(arguments)
    if quick:
        RUNS.update({1: 4, 32: 32})
    # each worker would tell that its backend, which these runs do not need, is away
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    results = asyncio.run(measure([options.only] if options.only else PARTS, options.rounds, options.kills))
    table(results)
    print(f"written to {write('tuning', results)}")
    return 0
