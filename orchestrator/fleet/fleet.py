"""The live view of the regions: a background loop for each thing that is probed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Self

import httpx
import structlog
from temporalio.client import Client

from orchestrator.errors import ConfigurationError
from orchestrator.fleet import probes
from orchestrator.fleet.draining import draining_regions
from orchestrator.fleet.readings import (
    CellReading,
    ControlEndpointReading,
    Liveness,
    QueueStatistics,
    Readings,
    Window,
)
from orchestrator.fleet.times import StepTimes
from orchestrator.fleet.view import View
from orchestrator.placement import RunTime, Snapshot
from orchestrator.placement.snapshot import RegionState
from orchestrator.queues import checked_kind, step_queue
from orchestrator.topology import Region, Topology

INTERVAL = timedelta(seconds=5)
"""Between two probes of the same thing."""

DEADLINE = timedelta(seconds=2)
"""Of one probe: several round trips around the globe."""

SUSPECT_PACE = 0.2
"""What failed its latest probe is asked again after this part of the interval, until it counts as down."""

QUEUES_AT_A_TIME = 8
"""How many queues of one cell are asked for in parallel."""

_NEVER = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger()


class Fleet:
    """Keeps a live view of the regions, for everything that plans.

    ``async with Fleet(...)`` probes in the background; ``snapshot()`` answers at once, from what
    was read so far. Every cell and every region has a loop, a deadline and a failure of its
    own, so that a dead one delays nobody.

    Args:
        topology: The regions and cells to watch.
        clients: One Temporal client a cell, by the cell's name. Cells without one are not read.
        kinds: The kinds of steps whose queues are read (``model``, ``vector``, …).
        viewpoint: The region in which this process runs. Without one its own round trips say
            nothing between regions and are left out of the snapshot.
        times: Run times that this process sees itself; the caller records them.
        interval: Between two probes of the same thing. Readings count for three of them and a deadline.
        deadline: Of one probe.
        http: Used for the control endpoints and left open; default: a client of its own.

    Raises:
        ConfigurationError: A cell, the viewpoint, a kind or a duration cannot be used.
    """

    def __init__(
        self,
        topology: Topology,
        clients: Mapping[str, Client],
        *,
        kinds: Collection[str] = (),
        viewpoint: str | None = None,
        times: StepTimes | None = None,
        interval: timedelta = INTERVAL,
        deadline: timedelta = DEADLINE,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        _check(topology, clients, viewpoint, interval, deadline)
        self.times = StepTimes() if times is None else times
        """Run times seen by this process; record here what it runs or watches."""

        self._topology = topology
        self._clients = dict(clients)
        self._kinds = frozenset(checked_kind(kind) for kind in kinds)
        self._viewpoint = viewpoint
        self._window = Window(interval, deadline)
        self._deadline = deadline
        self._given_http = http
        self._http: httpx.AsyncClient | None = http
        self._http_users = 0
        self._cells: dict[str, CellReading] = {}
        self._controls: dict[str, ControlEndpointReading] = {}
        self._queues: dict[tuple[str, str], QueueStatistics] = {}
        self._asked: dict[tuple[str, str], datetime] = {}
        self._unlisted: set[str] = set()
        self._latest: Snapshot | None = None
        self._noted: dict[str, RegionState] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if self._loops:
            raise RuntimeError("this fleet is already running; enter it once")
        self._open_http()
        for cell in self._clients:
            self._start(f"cell {cell}", lambda cell=cell: self._read_cell(cell))
            self._start(f"queues of cell {cell}", lambda cell=cell: self._read_work(cell))
        for region in self._probed_regions():
            self._start(f"region {region.name}", lambda region=region: self._read_region(region))
        self._loops.append(asyncio.create_task(self._watch(), name="fleet: states"))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        loops, self._loops = self._loops, []
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await self._close_http()

    async def refresh(self) -> None:
        """Read everything once, now, and return when all has answered or failed.

        Takes a few deadlines at most. Nothing that cannot be read is an error here: the snapshot
        says what is known. Works inside and outside of ``async with``.
        """
        self._open_http()
        try:
            await asyncio.gather(
                *(self._read_cell(cell) for cell in self._clients),
                *(self._read_work(cell) for cell in self._clients),
                *(self._read_region(region) for region in self._probed_regions()),
            )
        finally:
            await self._close_http()
        self._latest = None
        self._note_states()

    def snapshot(self) -> Snapshot:
        """What is known now: immutable, dated. Never waits.

        Asked again within a tenth of the interval it gives the same snapshot: in a large fleet it
        takes milliseconds to make, and many runs start in that time.
        """
        now, last = _now(), self._latest
        if last and last.taken_at and timedelta() <= now - last.taken_at < self._window.interval / 10:
            return last
        self._latest = self.view().snapshot()
        return self._latest

    def view(self) -> View:
        """The readings as they stand at this moment, cells included."""
        return self._view(self.times.run_times())

    def _view(self, own_times: Mapping[tuple[str, str], RunTime]) -> View:
        return View(
            topology=self._topology,
            readings=Readings(dict(self._cells), dict(self._controls), dict(self._queues)),
            now=datetime.now(UTC),
            window=self._window,
            viewpoint=self._viewpoint,
            kinds=self._kinds,
            own_times=own_times,
        )

    # -- the loops ----------------------------------------------------------------------------

    def _start(self, name: str, read: Callable[[], Awaitable[bool]]) -> None:
        self._loops.append(asyncio.create_task(self._loop(read), name=f"fleet: {name}"))

    async def _loop(self, read: Callable[[], Awaitable[bool]]) -> None:
        interval_s = self._window.interval.total_seconds()
        while True:
            suspect = False
            try:
                suspect = await read()
            except Exception:
                # a defect in reading one thing must not end the view of it for good
                _log.exception("fleet.probe_broke")
            # processes that started together do not keep asking together
            await asyncio.sleep(interval_s * (SUSPECT_PACE if suspect else random.uniform(0.9, 1.1)))

    async def _watch(self) -> None:
        while True:
            self._note_states()
            await asyncio.sleep(min(1.0, self._window.interval.total_seconds() / 2))

    async def _read_cell(self, cell: str) -> bool:
        """Probe a cell; whether it should be asked again soon."""
        before = self._cell(cell)
        try:
            rtts_ms = await probes.cell_round_trips(self._clients[cell], self._deadline)
        except probes.ProbeError as error:
            liveness = self._cell(cell).liveness.failed(_now(), str(error))
            self._cells[cell] = replace(self._cell(cell), liveness=liveness)
        else:
            now = _now()
            self._cells[cell] = replace(
                self._cell(cell),
                liveness=self._cell(cell).liveness.answered(now),
                round_trips=self._cell(cell).round_trips.measured(now, rtts_ms),
            )
        self._note_change(before.liveness, self._cell(cell).liveness, cell=cell)
        return self._is_suspect(self._cell(cell).liveness)

    async def _read_work(self, cell: str) -> bool:
        """Read a cell's workers and queues."""
        await asyncio.gather(self._read_heartbeats(cell), self._read_queues(cell), self._read_draining(cell))
        return False

    async def _read_heartbeats(self, cell: str) -> None:
        try:
            listed = await probes.heartbeats(self._clients[cell], self._deadline)
        except probes.UnsupportedError as error:
            if cell not in self._unlisted:
                self._unlisted.add(cell)
                _log.info("fleet.workers_unlisted", cell=cell, reason=str(error))
        except probes.ProbeError as error:
            _log.debug("fleet.workers_unread", cell=cell, reason=str(error))
        else:
            self._cells[cell] = self._cell(cell).listed(_now(), listed)

    async def _read_draining(self, cell: str) -> None:
        try:
            draining = await draining_regions(self._clients[cell], self._deadline)
        except probes.ProbeError as error:
            _log.debug("fleet.draining_unread", cell=cell, reason=str(error))
        else:
            self._cells[cell] = replace(self._cell(cell), draining=draining)

    async def _read_queues(self, cell: str) -> None:
        """As many as the deadline allows, those that were not asked for longest first."""
        waiting = sorted(self._queues_of(cell), key=lambda queue: self._asked_at(cell, queue), reverse=True)

        async def work() -> None:
            while waiting:
                await self._read_queue(cell, waiting.pop())

        workers = [asyncio.create_task(work()) for _ in range(min(QUEUES_AT_A_TIME, len(waiting)))]
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                await asyncio.gather(*workers)
        except TimeoutError:
            _log.debug("fleet.queues_left", cell=cell, left=len(waiting))

    async def _read_queue(self, cell: str, queue: str) -> None:
        self._asked[cell, queue] = _now()
        try:
            found = await probes.queue_statistics(self._clients[cell], queue, self._deadline)
        except probes.ProbeError as error:
            _log.debug("fleet.queue_unread", cell=cell, queue=queue, reason=str(error))
        else:
            self._queues[cell, queue] = found.following(self._queues.get((cell, queue)))

    async def _read_region(self, region: Region) -> bool:
        """Probe a region's control endpoint; whether it should be asked again soon."""
        before = self._control(region.name)
        try:
            status, rtt_ms = await probes.control_endpoint(self._opened_http, region, self._deadline)
        except probes.ProbeError as error:
            self._controls[region.name] = self._control(region.name).failed(_now(), str(error))
        else:
            self._controls[region.name] = self._control(region.name).answered(_now(), status, rtt_ms)
        self._note_change(before.liveness, self._control(region.name).liveness, region=region.name)
        return self._is_suspect(self._control(region.name).liveness)

    def _is_suspect(self, liveness: Liveness) -> bool:
        """Whether its next answer decides between up and down."""
        if liveness.failures:
            return liveness.state(_now(), self._window) != "down"
        return liveness.was_down

    # -- what is there ------------------------------------------------------------------------

    def _cell(self, cell: str) -> CellReading:
        return self._cells.get(cell) or CellReading()

    def _control(self, region: str) -> ControlEndpointReading:
        return self._controls.get(region) or ControlEndpointReading()

    def _probed_regions(self) -> list[Region]:
        return [region for region in self._topology.regions if region.control is not None]

    def _queues_of(self, cell: str) -> list[str]:
        return [
            step_queue(region.name, kind)
            for region in self._topology.regions
            if cell in self._topology.served_cells(region)
            for kind in sorted(self._kinds)
        ]

    def _asked_at(self, cell: str, queue: str) -> datetime:
        return self._asked.get((cell, queue), _NEVER)

    # -- what an operator sees ----------------------------------------------------------------

    def _note_change(self, before: Liveness, after: Liveness, **what: str) -> None:
        if after.failures == 1:
            _log.info("fleet.probe_failed", **what, reason=after.reason)
        elif before.failures and not after.failures:
            _log.info("fleet.probe_answered", **what, failures=before.failures)

    def _note_states(self) -> None:
        for region, state in self._view({}).region_states().items():
            known = self._noted.get(region, "unknown")
            if state == known:
                continue
            self._noted[region] = state
            note = _log.warning if state == "down" else _log.info
            note("region.state", region=region, state=state, previous=known)

    # -- connections --------------------------------------------------------------------------

    def _open_http(self) -> None:
        self._http_users += 1
        if self._http is None:
            # kept open between two probes; a proxy of the environment is not on the way to a worker
            self._http = httpx.AsyncClient(
                limits=httpx.Limits(keepalive_expiry=4 * self._window.interval.total_seconds()),
                timeout=self._deadline.total_seconds(),
                trust_env=False,
            )

    @property
    def _opened_http(self) -> httpx.AsyncClient:
        assert self._http is not None, "probes run between _open_http and _close_http"
        return self._http

    async def _close_http(self) -> None:
        self._http_users -= 1
        if self._http_users == 0 and self._http is not None and self._http is not self._given_http:
            http, self._http = self._http, None
            await http.aclose()


def _check(
    topology: Topology,
    clients: Mapping[str, Client],
    viewpoint: str | None,
    interval: timedelta,
    deadline: timedelta,
) -> None:
    unknown = sorted(clients.keys() - {cell.name for cell in topology.cells})
    if unknown:
        raise ConfigurationError(
            f"{topology.source}: a client is given for the unknown cell {unknown[0]!r}; "
            f"declare [cells.{unknown[0]}]"
        )
    regions = sorted(region.name for region in topology.regions)
    if viewpoint is not None and viewpoint not in regions:
        raise ConfigurationError(
            f"{topology.source}: the viewpoint {viewpoint!r} is no region; name one of {', '.join(regions)}"
        )
    for name, duration in (("interval", interval), ("deadline", deadline)):
        if duration <= timedelta():
            raise ConfigurationError(f"the fleet's {name} is {duration}; give it a time above zero")


def _now() -> datetime:
    return datetime.now(UTC)
