"""Half load for half an hour, nothing broken: memory, descriptors and processes stay flat: ``make soak``.

Every process is looked at four times a minute. What counts is the last tenth of the time against the
tenth that begins after three tenths, when caches are warm: its median resident memory may be 5 % or 10 MiB
higher, whichever is more, and it may have 8 descriptors more. The ledger and the services keep a record of
every run, so they grow and are only told; so is Temporal's own server, whose caches of histories fill for as
long as they have room.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from temporalio.client import Client

from bench.chaos.agents import Errand
from bench.chaos.conduct import fresh_orders, measured_rate, quiet, say, settled
from bench.chaos.figures import Tally, middle_and_tail, tally
from bench.chaos.fleet import Fleet, Shape, running
from bench.chaos.ledger import effects_of
from bench.chaos.load import Load
from bench.report import at_most, write
from orchestrator.runtime import event_loop

NAME = "soak"
EVERY = timedelta(seconds=15)
BLOCK = timedelta(seconds=30)
"""Runs are counted, and forgotten, in blocks of so long."""

DEADLINE = timedelta(seconds=60)

EARLY, LATE = (0.3, 0.4), (0.9, 1.0)
GROWS_PERCENT, GROWS_MIB, MORE_DESCRIPTORS = 5.0, 10.0, 8

ONLY_TOLD = ("ledger", "services", "cell")


@dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    process: str
    at: float
    """Part of the soak that has passed."""

    rss_mib: float
    descriptors: int
    sockets: int


def sample(process: str, pid: int, at: float) -> Sample | None:
    """What the kernel says of a process; None if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        open_now = [_target(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except (OSError, IndexError):
        return None
    sockets = sum(target.startswith("socket:") for target in open_now)
    rss_mib = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Sample(process, at, rss_mib, len(open_now), sockets)


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:  # closed meanwhile
        return ""


class Soak:
    """Keeps a fleet under half load.

    Args:
        fleet: Whole and settled.
        lasts: For how long.
        per_s: Runs that start in a second.
    """

    def __init__(self, fleet: Fleet, lasts: timedelta, per_s: float) -> None:
        self._fleet, self._lasts, self._per_s = fleet, lasts, per_s
        self._began = time.monotonic()
        self.samples: list[Sample] = []
        self.tallies: list[Tally] = []
        self.took_s: list[float] = []
        self.processes: list[int] = []

    async def run(self) -> None:
        """Until the time has passed and every run has ended, or is lost."""
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as blocks:
                while self._passed < 1:
                    orders = fresh_orders(max(1, round(self._per_s * BLOCK.total_seconds())))
                    load = Load(self._fleet.client, Errand, orders, per_s=self._per_s, deadline=DEADLINE)
                    blocks.create_task(self._count(load, orders))
                    await load.until_submitted(len(orders))
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    @property
    def _passed(self) -> float:
        return (time.monotonic() - self._began) / self._lasts.total_seconds()

    async def _count(self, load: Load, orders: range) -> None:
        await load.drive()
        self.tallies.append(tally(Errand, load.runs, await effects_of(self._fleet.ledger, orders)))
        self.took_s += [run.took_s for run in load.runs if run.took_s is not None]

    async def _watch(self) -> None:
        told = 0
        while True:
            at = min(1.0, self._passed)
            pids = {"client": os.getpid()}
            pids |= {process.name: process.pid for process in self._fleet.supervisor.processes}
            found = [sample(name, pid, at) for name, pid in pids.items()]
            self.samples += [one for one in found if one is not None]
            self.processes.append(len(_below(os.getpid())))
            if int(at * 10) > told:
                told = int(at * 10)
                say(f"  {at:.0%}: {len(self.took_s)} runs ended")
            await asyncio.sleep(min(EVERY.total_seconds(), self._lasts.total_seconds() / 40))


def _below(pid: int) -> set[int]:
    """Every process below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    frontier = {pid}
    while frontier := {child for child, parent in parents.items() if parent in frontier} - found:
        found |= frontier
    return found


def rows_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Early against late, for each process."""
    rows: list[dict[str, Any]] = []
    for process in dict.fromkeys(one.process for one in samples):
        early, late = (_window(samples, process, window) for window in (EARLY, LATE))
        if early and late:
            before, after = (median(one.rss_mib for one in window) for window in (early, late))
            rows.append(
                {
                    "process": process,
                    "early_mib": round(before, 1),
                    "late_mib": round(after, 1),
                    "grown_percent": round(100 * (after / before - 1), 1),
                    "early_descriptors": max(one.descriptors for one in early),
                    "late_descriptors": max(one.descriptors for one in late),
                    "early_sockets": max(one.sockets for one in early),
                    "late_sockets": max(one.sockets for one in late),
                }
            )
    return rows


def _window(samples: Sequence[Sample], process: str, window: tuple[float, float]) -> list[Sample]:
    begin, end = window
    return [one for one in samples if one.process == process and begin <= one.at <= end]


def goals_of(rows: Sequence[dict[str, Any]], totals: dict[str, Any]) -> list[dict[str, Any]]:
    """Flat within the tolerance, and nothing left over."""
    ours = [row for row in rows if not row["process"].startswith(ONLY_TOLD)]
    beyond = [max(0.0, row["late_mib"] - _allowed_mib(row["early_mib"])) for row in ours]
    more = [row["late_descriptors"] - row["early_descriptors"] for row in ours]
    return [
        at_most("soak: memory of the worst process beyond the tolerance (MiB)", max(beyond, default=0), 0),
        at_most("soak: more descriptors in the worst process", max(more, default=0), MORE_DESCRIPTORS),
        at_most("soak: processes more than at the start", totals["processes_more"], 0),
        at_most("soak: runs open at the end", totals["open_at_the_end"], 0),
        *(at_most(f"soak: {key}", totals[key], 0) for key in ("lost", "duplicated", "wrong", "outside")),
    ]


def _allowed_mib(early_mib: float) -> float:
    return early_mib + max(early_mib * GROWS_PERCENT / 100, GROWS_MIB)


async def _open_runs(client: Client) -> int:
    return (await client.count_workflows('ExecutionStatus="Running"')).count


async def soaking(lasts: timedelta, per_s: float | None) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="edgeward-soak-", ignore_cleanup_errors=True) as folder:
        async with running(Shape(), Path(folder)) as fleet:
            await settled(fleet)
            per_s = per_s or await measured_rate(fleet)
            say(f"{lasts.total_seconds() / 60:g} minutes at {per_s:.1f} runs/s")
            soak = Soak(fleet, lasts, per_s)
            await soak.run()
            cells = [fleet.client.cell(cell.name) for cell in fleet.topology.cells]
            open_runs = sum(await asyncio.gather(*map(_open_runs, cells)))
    p50_s, p99_s = middle_and_tail(soak.took_s)
    keys = ("runs", "lost", "failed", "duplicated", "missing", "wrong", "outside", "repeated", "refused")
    totals: dict[str, Any] = {
        "minutes": round(lasts.total_seconds() / 60, 1),
        "runs_per_s": round(per_s, 1),
        **{key: sum(getattr(one, key) for one in soak.tallies) for key in keys},
        "run_p50_s": p50_s,
        "run_p99_s": p99_s,
        "open_at_the_end": open_runs,
        "processes_more": max(0, soak.processes[-1] - soak.processes[0]),
    }
    return [totals, *rows_of(soak.samples)]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="how long")
    parser.add_argument("--rate", type=float, help="runs a second; default: half of what the machine can do")
    chosen = parser.parse_args(arguments)
    quiet()
    with asyncio.Runner(loop_factory=event_loop) as runner:
        try:
            totals, *rows = runner.run(soaking(timedelta(minutes=chosen.minutes), chosen.rate))
        except KeyboardInterrupt:
            return 130
    goals = goals_of(rows, totals)
    for row in (totals, *rows):
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    for goal in goals:
        holds = "holds " if goal["holds"] else "MISSED"
        print(f"{holds}  {goal['name']}: {goal['value']} (bound {goal['bound']})")
    print(f"written to {write(NAME, [totals, *rows], goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
