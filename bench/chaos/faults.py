"""The faults: each of them breaks something real, and mends it."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Protocol

from bench.chaos import clock, doubles
from bench.chaos.doubles import Mood
from bench.chaos.fleet import Fleet, WorkerProcess
from bench.chaos.places import CELL, CENTRAL, DUBLIN, FAR, FRANKFURT, HOME, PARIS, SERVER, WEST
from orchestrator.dev.wan import Fault as NetworkFault

FULL_WITHIN = timedelta(seconds=30)


class Fault(Protocol):
    """Something that goes wrong."""

    @property
    def regions(self) -> frozenset[str]:
        """Regions that cannot work, or not as usual, meanwhile."""
        ...

    @property
    def cells(self) -> frozenset[str]:
        """Cells that are away meanwhile."""
        ...

    async def inflict(self, fleet: Fleet) -> None:
        """Break it; returns when it is broken."""
        ...

    async def heal(self, fleet: Fleet) -> None:
        """Mend it, as an operator or time would."""
        ...


@dataclass(frozen=True)
class Nothing:
    """A healthy fleet, to compare with."""

    regions: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()

    async def inflict(self, fleet: Fleet) -> None:
        pass

    async def heal(self, fleet: Fleet) -> None:
        pass


@dataclass(frozen=True)
class KillWorkers:
    """SIGKILL of worker processes of a region: all of them, or one of several.

    Args:
        region: Whose.
        only: Which one; None: all.
    """

    region: str
    only: int | None = None
    cells: frozenset[str] = frozenset()

    @property
    def regions(self) -> frozenset[str]:
        return frozenset({self.region})

    async def inflict(self, fleet: Fleet) -> None:
        await asyncio.gather(*(fleet.kill_worker(worker) for worker in self._workers(fleet) if worker.alive))

    async def heal(self, fleet: Fleet) -> None:
        dead = [worker for worker in self._workers(fleet) if not worker.alive]
        await asyncio.gather(*(fleet.start_worker(worker) for worker in dead))

    def _workers(self, fleet: Fleet) -> Sequence[WorkerProcess]:
        return [worker for worker in fleet.of(self.region) if self.only in (None, worker.number)]


@dataclass(frozen=True)
class KillCell:
    """SIGKILL of a cell's server; healed by a start from its file."""

    cell: str
    regions: frozenset[str] = frozenset()

    @property
    def cells(self) -> frozenset[str]:
        return frozenset({self.cell})

    async def inflict(self, fleet: Fleet) -> None:
        await fleet.end_cell(self.cell, kill=True)

    async def heal(self, fleet: Fleet) -> None:
        if not fleet.servers[self.cell].running:
            await fleet.start_cell(self.cell)


@dataclass(frozen=True)
class Partition:
    """Two regions do not reach each other; both reach the others."""

    one: str
    other: str
    fault: NetworkFault
    cells: frozenset[str] = frozenset()

    @property
    def regions(self) -> frozenset[str]:
        """Those that are cut off from the cell that stands in the other."""
        servers = frozenset(SERVER.values())
        return frozenset({self.one, self.other} - servers) or frozenset({self.other})

    async def inflict(self, fleet: Fleet) -> None:
        fleet.network.partition(self.one, self.other, self.fault)

    async def heal(self, fleet: Fleet) -> None:
        fleet.network.heal(self.one, self.other)


@dataclass(frozen=True)
class Services:
    """The models and tools of a region misbehave; its workers live."""

    region: str
    mood: Mood = Mood.WELL
    times_slower: float = 1.0
    cells: frozenset[str] = frozenset()

    @property
    def regions(self) -> frozenset[str]:
        return frozenset({self.region})

    async def inflict(self, fleet: Fleet) -> None:
        await doubles.tell(fleet.services, self.region, mood=self.mood, times_slower=self.times_slower)

    async def heal(self, fleet: Fleet) -> None:
        await doubles.tell(fleet.services, self.region)


@dataclass(frozen=True)
class ClockJump:
    """The wall clock of a worker process jumps, and jumps back."""

    by: timedelta
    region: str = FAR
    cells: frozenset[str] = frozenset()

    @property
    def regions(self) -> frozenset[str]:
        return frozenset({self.region})

    async def inflict(self, fleet: Fleet) -> None:
        clock.set_offset(fleet.clock_file, self.by)

    async def heal(self, fleet: Fleet) -> None:
        clock.set_offset(fleet.clock_file, timedelta(0))


@dataclass(frozen=True)
class FullDisk:
    """A cell's database cannot grow: writing fails with "no space left on device".

    SQLite goes on for a while in the part of its log that it has already; the fault is there when the
    server has said that a write failed.
    """

    cell: str
    regions: frozenset[str] = frozenset()

    @property
    def cells(self) -> frozenset[str]:
        return frozenset({self.cell})

    async def inflict(self, fleet: Fleet) -> None:
        assert fleet.disk is not None, "the fleet has no small disk"
        await asyncio.to_thread(fleet.disk.fill)
        log_file = fleet.servers[self.cell].log_file
        with contextlib.suppress(TimeoutError):  # then nothing needed more space, and the figures say so
            async with asyncio.timeout(FULL_WITHIN.total_seconds()):
                while "disk is full" not in log_file.read_text(errors="replace"):
                    await asyncio.to_thread(fleet.disk.fill)  # what a checkpoint has freed meanwhile
                    await asyncio.sleep(0.1)

    async def heal(self, fleet: Fleet) -> None:
        assert fleet.disk is not None
        fleet.disk.empty()
        if not fleet.servers[self.cell].running:  # it gave up: an operator starts it again
            await fleet.start_cell(self.cell)


@dataclass(frozen=True)
class RollEverything:
    """SIGTERM and a new start of every worker and every server, one after the other."""

    regions: frozenset[str] = frozenset({FRANKFURT, PARIS, DUBLIN})
    cells: frozenset[str] = frozenset({CENTRAL, WEST})

    async def inflict(self, fleet: Fleet) -> None:
        for worker in fleet.workers:
            await fleet.roll_worker(worker)
        for cell in fleet.cells:
            await fleet.end_cell(cell, kill=False)
            await fleet.start_cell(cell)

    async def heal(self, fleet: Fleet) -> None:
        pass


@dataclass(frozen=True)
class Timed:
    """A fault of a schedule: when it begins after the one before has healed, and how long it lasts."""

    pause: timedelta
    fault: Fault
    lasts: timedelta

    def __str__(self) -> str:
        """As the report lists it."""
        return f"+{self.pause.total_seconds():.1f} s {self.fault!r} for {self.lasts.total_seconds():.1f} s"


@dataclass(frozen=True)
class Schedule:
    """Several faults, one after the other."""

    faults: tuple[Timed, ...]

    @property
    def regions(self) -> frozenset[str]:
        return frozenset().union(*(timed.fault.regions for timed in self.faults))

    @property
    def cells(self) -> frozenset[str]:
        return frozenset().union(*(timed.fault.cells for timed in self.faults))

    async def inflict(self, fleet: Fleet) -> None:
        for timed in self.faults:
            await asyncio.sleep(timed.pause.total_seconds())
            await timed.fault.inflict(fleet)
            try:
                await asyncio.sleep(timed.lasts.total_seconds())
            finally:
                await timed.fault.heal(fleet)

    async def heal(self, fleet: Fleet) -> None:
        pass


def random_schedule(seed: int, count: int) -> Schedule:
    """The same faults for the same seed."""
    random = Random(seed)
    return Schedule(tuple(_drawn(random) for _ in range(count)))


def _drawn(random: Random) -> Timed:
    region, cell = random.choice((HOME, FAR, DUBLIN)), random.choice(tuple(CELL.values()))
    faults: tuple[Fault, ...] = (
        KillWorkers(region),
        KillWorkers(FAR, only=random.randrange(2)),
        KillCell(cell),
        *(Partition(random.choice((PARIS, DUBLIN)), HOME, fault) for fault in NetworkFault),
        *(Services(region, mood) for mood in Mood if mood is not Mood.WELL),
        Services(region, times_slower=20),
        ClockJump(timedelta(hours=random.choice((-2, 2)))),
    )
    pause, lasts = random.uniform(0.5, 3), random.uniform(2, 6)
    return Timed(timedelta(seconds=pause), random.choice(faults), timedelta(seconds=lasts))
