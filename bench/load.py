"""Runs and steps a second with 1 to 10,000 runs open, and memory a run, against plain temporalio.

Both systems do the same: a run takes two no-op steps, waits to be resumed by a signal, takes three more and
answers. The steps are inline (local activities, against the same of plain temporalio) or queued (activities
from a queue of their own, against the same). Neither is sandboxed: that is the application's choice.

The processes are those of a real deployment: one tuned server for both systems, one worker process for each,
and this client. Both workers live through the whole bench, with the same pollers, slots, sticky timeout,
heartbeats, JSON and number of cached runs; the one whose turn it is not waits in its polls.

Edgeward's client plans each run among five regions, of which one has a worker: so plans and receipts are as
large as those of an application in several regions. Without a live view, for it would find four regions down.

"N open" is a closed loop. N runs are open in the server and in the worker's cache; up to 8 of them are
worked on at a time, and all the others are parked at the signal. A turn starts one run, resumes the oldest
and waits for its answer: so a turn costs one whole run, whatever N is, and what changes with N is only how
many runs lie around it. With N = 1 each run is resumed right after its start. Of the parked ones at most 500
are queued runs, the others inline: they wait for the same signal, and inline ones are started sooner.

Blocks of the two systems alternate, and so does which of them is first. The systems' ratio is the middle one
of the ratios of neighbouring blocks, which met about the same machine; processor time a run, by process, is
there because it suffers less from what else the machine does. Levels of N follow each other within one run,
for 20,000 runs cannot be closed and opened again between blocks: look at the load averages before trusting
what is said of two levels.

Memory is the worker's resident set once all open runs are parked, minus that of the same worker after the
warm-up with nothing open, by run. At the end both workers are started again with a cache for a tenth of the
open runs, which at 10,000 is the SDK's default. More runs than it holds are started and resumed, the oldest
first: so each of them has been evicted, and this is what a cache that is too small costs.
"""

import argparse
import asyncio
import logging
import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.load_agents import application
from bench.load_loop import AT_ONCE, Block, block, fill, settled, steps_done
from bench.load_report import FLAT_FROM, Measured, evictions, goals_of, memory, print_table, rates
from bench.load_systems import KINDS, System, edgeward, plain
from bench.load_worker import HERE, topology
from bench.report import write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell

OPEN = (1, 100, 1_000, 10_000)
QUICK_OPEN = (1, 100)
"""Without memory and evictions: starting a thousand runs of each system takes too long."""
MOST_QUEUED = 500
"""Parked queued runs: more than the blocks of a level resume."""

SPARE_CACHE = 1.2
"""Cached runs at most, of the most open ones: nothing is evicted."""

SMALL_CACHE = 0.1
"""Cached runs at the end, of the most open ones."""

LEAST_SMALL_CACHE = 100
"""With fewer, the runs that are worked on would be a good part of it."""

EVICTING_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is measured, and for how long."""

    open: tuple[int, ...]
    rounds: int
    block: timedelta

    @property
    def cached_runs(self) -> int:
        return int(max(*self.open, FLAT_FROM) * SPARE_CACHE)

    @property
    def small_cache(self) -> int:
        return int(max(self.open) * SMALL_CACHE)


class Bench:
    """One server, two systems."""

    def __init__(self, schedule: Schedule, supervisor: Supervisor) -> None:
        self._schedule = schedule
        self._supervisor = supervisor
        self._server_pid = 0
        self.measured = Measured()

    async def run(self) -> Measured:
        port, http_port, metrics_port = free_ports(3)
        server = CellServer(HERE, port, http_port, metrics_port)
        self._server_pid = (await start_cell(server, self._supervisor)).pid
        known = topology(server.address)
        client = await Client.connect(server.address, namespace=HERE, data_converter=pydantic_data_converter)
        # thousands of runs wait here, and none is to be refused for it
        connect = EdgeClient.connect(known, application=application, watch=False, admission=False)
        async with await connect as edge:
            systems = edgeward(edge), plain(client)
            start = (self._supervisor, server.address)
            for system in systems:
                await system.start_worker(*start, self._schedule.cached_runs, "large-cache")
            await self._warm_up(systems)
            for count in self._schedule.open:
                await self._level(systems, count)
            if self._schedule.small_cache >= LEAST_SMALL_CACHE:
                done = {system.name: steps_done(system) for system in systems}
                for system in systems:
                    await system.stop_worker()
                    await system.start_worker(*start, self._schedule.small_cache, "small-cache")
                await self._evicting(systems, done)
        return self.measured

    async def _warm_up(self, systems: tuple[System, ...]) -> None:
        """Connections, threads and code paths, as many at a time as later."""
        for system in systems:
            for kind in KINDS:
                await self._block(system, kind, AT_ONCE)
            self.measured.held[0, system.name] = await settled(system)

    async def _level(self, systems: tuple[System, ...], count: int) -> None:
        at_once = min(count, AT_ONCE)
        parked = count - at_once
        queued = min(parked // 2, MOST_QUEUED)
        async with asyncio.TaskGroup() as filling:
            for system in systems:
                filling.create_task(fill(system, {"queued": queued, "inline": parked - queued}))
        for system in systems:
            if parked:
                self.measured.held[count, system.name] = await settled(system)
        self.measured.loads.append((count, os.getloadavg()[0]))
        for number in range(self._schedule.rounds):
            for kind in KINDS:
                for system in systems[:: -1 if number % 2 else 1]:
                    done = await self._block(system, kind, at_once)
                    self.measured.note(count, kind, system.name, done)
                    print(f"{count} open, {kind}, {system.name}: {done.runs_per_s:.1f} runs/s", flush=True)

    async def _evicting(self, systems: tuple[System, ...], done_before: dict[str, int]) -> None:
        for system in systems:
            # those that the ended workers had in their caches would be resumed from the common queue
            system.set_aside("inline")
            await fill(system, {"inline": int(self._schedule.small_cache * SPARE_CACHE)})
            self.measured.evicting_before[system.name] = await settled(
                system, steps_before=done_before[system.name]
            )
        for number in range(min(self._schedule.rounds, EVICTING_ROUNDS)):
            for system in systems[:: -1 if number % 2 else 1]:
                done = await self._block(system, "inline", AT_ONCE)
                self.measured.evicting.setdefault(system.name, []).append(done)
        for system in systems:
            self.measured.evicting_after[system.name] = await settled(
                system, steps_before=done_before[system.name]
            )

    async def _block(self, system: System, kind: str, at_once: int) -> Block:
        try:
            return await block(system, kind, at_once, self._schedule.block, self._server_pid)
        except ExceptionGroup as failed:
            if failed.subgroup(TimeoutError) is None:
                raise
            raise system.failure("answered a run too late or never") from None


async def measure(schedule: Schedule) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            return await Bench(schedule, supervisor).run()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=load", description=(__doc__ or "").split("\n")[0])
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument(
        "--open",
        type=int,
        nargs="+",
        default=QUICK_OPEN if quick else OPEN,
        help="numbers of open runs, growing",
    )
    parser.add_argument("--rounds", type=int, default=3 if quick else 5, help="blocks of each, best odd")
    parser.add_argument("--seconds", type=float, default=0.7 if quick else 2.0, help="length of a block")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    schedule = Schedule(tuple(sorted(options.open)), options.rounds, timedelta(seconds=options.seconds))
    measured = asyncio.run(measure(schedule))
    tables = rates(measured), memory(measured), evictions(measured)
    for table in tables:
        print_table(table)
    goals = goals_of(measured)
    print_table(goals)
    loads = ", ".join(f"{load:.1f} at {count:,} open" for count, load in measured.loads)
    print(f"machine: {os.cpu_count()} cores, load average {loads}")
    results = [row for table in tables for row in table]
    print(f"written to {write('load', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1
