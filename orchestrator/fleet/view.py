"""From dated readings to a snapshot: what still counts at a moment. Pure.

A reading that nothing renewed for three intervals stops counting, and placement falls back to
what it would assume without it: a region's state becomes unknown, a round trip time comes from
the topology or from coordinates, a run time returns to its prior. Nothing freezes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.fleet.readings import CellReading, Heartbeat, ProbeState, QueueStatistics, Readings, Window
from orchestrator.fleet.status import QueueStatus
from orchestrator.fleet.times import OLDEST
from orchestrator.placement import QueueReading, RegionReading, RunTime, Snapshot
from orchestrator.placement.snapshot import RegionState
from orchestrator.queues import kind_of, region_of, step_queue
from orchestrator.topology import Region, Topology


@dataclass(frozen=True)
class View:
    """The readings as they stand at one moment.

    Args:
        topology: The regions and cells that were read.
        readings: What was read of them.
        now: The moment.
        window: How long readings count.
        viewpoint: The region in which the probing process runs, if it runs in one.
        kinds: Kinds of steps whose queues were read.
        own_times: Run times that this process saw itself.
    """

    topology: Topology
    readings: Readings
    now: datetime
    window: Window
    viewpoint: str | None = None
    kinds: frozenset[str] = frozenset()
    own_times: Mapping[tuple[str, str], RunTime] = field(default_factory=dict[tuple[str, str], RunTime])

    def snapshot(self) -> Snapshot:
        """What placement reads."""
        beats = self._live_heartbeats()
        return Snapshot(
            taken_at=self.now,
            regions={
                region.name: RegionReading(
                    state=self._state(region, beats.get(region.name, [])),
                    queues=self._queues(region, beats.get(region.name, [])),
                )
                for region in self.topology.regions
            },
            run_times=self._run_times(),
            rtt_ms=self._rtt_ms(),
        )

    def region_states(self) -> dict[str, RegionState]:
        """The state of each region."""
        beats = self._live_heartbeats()
        return {
            region.name: self._state(region, beats.get(region.name, [])) for region in self.topology.regions
        }

    def cell_states(self) -> dict[str, ProbeState]:
        """The state of each cell: a run cannot start in one that is down."""
        return {
            cell.name: self.readings.cells.get(cell.name, CellReading()).liveness.state(self.now, self.window)
            for cell in self.topology.cells
        }

    # -- states -------------------------------------------------------------------------------

    def _state(self, region: Region, beats: list[Heartbeat]) -> RegionState:
        if region.control is None:
            return self._state_without_control(region, beats)
        control = self.readings.controls.get(region.name)
        if control is None:
            return "unknown"
        state = control.liveness.state(self.now, self.window)
        if state == "down":
            failing_since = control.liveness.failing_since
            return "up" if failing_since and self._beats_since(failing_since, beats) else "down"
        status = control.status if self._is_fresh(control.liveness.answered_at) else None
        if status is not None and status.state == "draining":
            return "draining"
        return state

    def _beats_since(self, silence: datetime, beats: list[Heartbeat]) -> bool:
        """Whether a worker lives although its control endpoint fell silent then.

        A last heartbeat from before may be seen up to a round later, so that one proves nothing.
        """
        return any(
            not beat.shutting_down and beat.seen_at > silence + 2 * self.window.interval for beat in beats
        )

    def _state_without_control(self, region: Region, beats: list[Heartbeat]) -> RegionState:
        if beats:
            return "draining" if all(beat.shutting_down for beat in beats) else "up"
        statistics = [
            found
            for cell, queue in self._queue_keys(region)
            if (found := self._fresh_statistics(cell, queue)) is not None
        ]
        last_beat = self._last_beat(region)
        if any(found.is_polled(self.now, self.window, after=last_beat) for found in statistics):
            return "up"
        own_cell_was_read = any(
            self._fresh_statistics(region.cell, step_queue(region.name, kind)) for kind in self.kinds
        )
        return "down" if last_beat or own_cell_was_read else "unknown"

    def _last_beat(self, region: Region) -> datetime | None:
        """When a worker of the region was last seen to beat, though it no longer does."""
        served = self.topology.served_cells(region)
        return max(
            (
                beat.seen_at
                for cell, beat in self._listed_heartbeats()
                if cell in served and region_of(beat.queue) == region.name
            ),
            default=None,
        )

    # -- queues -------------------------------------------------------------------------------

    def _queues(self, region: Region, beats: list[Heartbeat]) -> dict[str, QueueReading]:
        control = self.readings.controls.get(region.name)
        said: Mapping[str, QueueStatus] = {}
        if control and control.status and self._is_fresh(control.liveness.answered_at):
            said = control.status.queues
        queues: dict[str, QueueReading] = {}
        for kind in sorted(self.kinds | said.keys()):
            backlogs = [
                found.backlog
                for cell in self.topology.served_cells(region)
                if (found := self._fresh_statistics(cell, step_queue(region.name, kind))) is not None
            ]
            slots, busy = (said[kind].slots, said[kind].busy) if kind in said else _slots(kind, beats)
            if backlogs or slots is not None:
                queues[kind] = QueueReading(backlog=sum(backlogs), slots=slots, busy=busy)
        return queues

    def _queue_keys(self, region: Region) -> Iterator[tuple[str, str]]:
        for cell in self.topology.served_cells(region):
            for kind in self.kinds:
                yield cell, step_queue(region.name, kind)

    def _fresh_statistics(self, cell: str, queue: str) -> QueueStatistics | None:
        found = self.readings.queues.get((cell, queue))
        return found if found and self._is_fresh(found.read_at) else None

    # -- workers ------------------------------------------------------------------------------

    def _live_heartbeats(self) -> dict[str, list[Heartbeat]]:
        """By region."""
        by_region: dict[str, list[Heartbeat]] = {}
        for cell, beat in self._listed_heartbeats():
            region = region_of(beat.queue)
            if region is not None and beat.is_alive(self.now, self.window) and self._serves(region, cell):
                by_region.setdefault(region, []).append(beat)
        return by_region

    def _listed_heartbeats(self) -> Iterator[tuple[str, Heartbeat]]:
        """Of the cells that list their workers: one that cannot be reached says nothing of them."""
        for cell, reading in self.readings.cells.items():
            if self._is_fresh(reading.listed_at):
                for beat in reading.heartbeats.values():
                    yield cell, beat

    def _serves(self, name: str, cell: str) -> bool:
        try:
            region = self.topology.region(name)
        except KeyError:
            return False
        return cell in self.topology.served_cells(region)

    # -- times --------------------------------------------------------------------------------

    def _rtt_ms(self) -> dict[tuple[str, str], float]:
        found: dict[tuple[str, str], float] = {}

        def note(source: str, target: str, rtt_ms: float) -> None:
            found[source, target] = min(rtt_ms, found.get((source, target), rtt_ms))

        regions = {region.name for region in self.topology.regions}
        for name, control in self.readings.controls.items():
            rtt_ms = control.round_trips.rtt_ms(self.now, self.window)
            if self.viewpoint is not None and rtt_ms is not None:
                note(self.viewpoint, name, rtt_ms)
            if control.status is not None and self._is_fresh(control.liveness.answered_at):
                for target, reported_ms in control.status.rtt_ms.items():
                    if target in regions:
                        note(name, target, reported_ms)
        for name, cell in self.readings.cells.items():
            rtt_ms = cell.round_trips.rtt_ms(self.now, self.window)
            if self.viewpoint is not None and rtt_ms is not None:
                note(self.viewpoint, self.topology.cell(name).region, rtt_ms)
        return found

    def _run_times(self) -> dict[tuple[str, str], RunTime]:
        """Of each step in each region, from whoever saw it more often.

        What a worker said long ago weighs less: its samples shrink with its age, so that the
        prior comes back.
        """
        found: dict[tuple[str, str], RunTime] = {}
        for region, control in self.readings.controls.items():
            answered_at = control.liveness.answered_at
            if control.status is None or answered_at is None:
                continue
            weight = 1 - max(timedelta(), self.now - answered_at - self.window.fresh) / OLDEST
            for said in control.status.run_times:
                samples = round(said.samples * weight)
                if samples > 0:
                    found[said.step, region] = RunTime(said.p50_ms, said.p95_ms, samples)
        for key, own in self.own_times.items():
            if key not in found or found[key].samples < own.samples:
                found[key] = own
        return found

    def _is_fresh(self, at: datetime | None) -> bool:
        return self.window.is_fresh(at, self.now)


def _slots(kind: str, beats: list[Heartbeat]) -> tuple[int | None, int]:
    """Slots of the workers of one kind that take new work, and how many are busy."""
    workers = [beat for beat in beats if kind_of(beat.queue) == kind and not beat.shutting_down]
    known = [beat.slots for beat in workers if beat.slots is not None]
    return (sum(known) if known else None), sum(beat.busy for beat in workers)
