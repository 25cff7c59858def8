"""From dated readings to a snapshot: what still counts at a moment. Pure.

A reading that nothing renewed for three rounds of probes stops counting, and placement falls back to
what it would assume without it: a region's state becomes unknown, a round trip time comes from
the topology or from coordinates, a run time returns to its prior. Nothing freezes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

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
        return Snapshot(
            taken_at=self.now,
            regions={
                region.name: RegionReading(state=self._state(region), queues=self._queues(region))
                for region in self.topology.regions
            },
            run_times=self._run_times(),
            rtt_ms=self._rtt_ms(),
            cells_down=frozenset(cell for cell, state in self.cell_states().items() if state == "down"),
        )

    def region_states(self) -> dict[str, RegionState]:
        """The state of each region."""
        return {region.name: self._state(region) for region in self.topology.regions}

    def cell_states(self) -> dict[str, ProbeState]:
        """The state of each cell: a run cannot start in one that is down."""
        return {
            cell.name: self.readings.cells.get(cell.name, CellReading()).liveness.state(self.now, self.window)
            for cell in self.topology.cells
        }

    def avoided_by(self, region: str) -> dict[str, str]:
        """Whose runs send no steps to a region while others can do them, and why."""
        return {
            name: control.status.away[region]
            for name, control in self.readings.controls.items()
            if control.status is not None
            and region in control.status.away
            and self._is_fresh(control.liveness.answered_at)
        }

    # -- states -------------------------------------------------------------------------------

    def _state(self, region: Region) -> RegionState:
        state = self._probed_state(region)
        cell = self.readings.cells.get(region.cell)
        drained = cell is not None and region.name in cell.draining
        return "draining" if drained and state != "down" else state

    def _probed_state(self, region: Region) -> RegionState:
        if region.control is None:
            return self._state_without_control(region)
        control = self.readings.controls.get(region.name)
        if control is None:
            return "unknown"
        state = control.liveness.state(self.now, self.window)
        if state == "down":
            failing_since = control.liveness.failing_since
            return "up" if failing_since and self._beats_since(failing_since, region) else "down"
        status = control.status if self._is_fresh(control.liveness.answered_at) else None
        if status is not None and status.state == "draining":
            return "draining"
        return state

    def _beats_since(self, silence: datetime, region: Region) -> bool:
        """Whether a worker lives although its control endpoint fell silent then.

        A last heartbeat from before may be seen up to a round later, so that one proves nothing.
        """
        since = silence + 2 * self.window.interval
        return any(not beat.shutting_down and beat.seen_at > since for beat in self._beats(region))

    def _state_without_control(self, region: Region) -> RegionState:
        beats = self._beats(region)
        if beats:
            return "draining" if all(beat.shutting_down for beat in beats) else "up"
        queues = [step_queue(region.name, kind) for kind in self.kinds]
        statistics = [
            found
            for cell in self.topology.served_cells(region)
            for queue in queues
            if (found := self._fresh_statistics(cell, queue)) is not None
        ]
        last_beat = self._last_beat(region)
        if any(found.is_polled(self.now, self.window, after=last_beat) for found in statistics):
            return "up"
        own_cell_was_read = any(self._fresh_statistics(region.cell, queue) for queue in queues)
        return "down" if last_beat or own_cell_was_read else "unknown"

    def _last_beat(self, region: Region) -> datetime | None:
        """When a worker of the region was last seen to beat, whether it still does or not."""
        return max((beat.seen_at for beat in self._heartbeats.get(region.name, [])), default=None)

    # -- queues -------------------------------------------------------------------------------

    def _queues(self, region: Region) -> dict[str, QueueReading]:
        control = self.readings.controls.get(region.name)
        said: Mapping[str, QueueStatus] = {}
        if control and control.status and self._is_fresh(control.liveness.answered_at):
            said = control.status.queues
        cells = self.topology.served_cells(region)
        queues: dict[str, QueueReading] = {}
        for kind in sorted(self.kinds | said.keys()):
            backlogs: list[int] = []
            if kind in self.kinds:
                queue = step_queue(region.name, kind)
                backlogs = [found.backlog for cell in cells if (found := self._fresh_statistics(cell, queue))]
            slots, busy = (said[kind].slots, said[kind].busy) if kind in said else self._slots(region, kind)
            if backlogs or slots is not None:
                queues[kind] = QueueReading(backlog=sum(backlogs), slots=slots, busy=busy)
        return queues

    def _slots(self, region: Region, kind: str) -> tuple[int | None, int]:
        """Slots of the workers of one kind that take new work, and how many are busy."""
        workers = [
            beat for beat in self._beats(region) if kind_of(beat.queue) == kind and not beat.shutting_down
        ]
        known = [beat.slots for beat in workers if beat.slots is not None]
        return (sum(known) if known else None), sum(beat.busy for beat in workers)

    def _fresh_statistics(self, cell: str, queue: str) -> QueueStatistics | None:
        found = self.readings.queues.get((cell, queue))
        return found if found and self._is_fresh(found.read_at) else None

    # -- workers ------------------------------------------------------------------------------

    def _beats(self, region: Region) -> list[Heartbeat]:
        """Of the region's workers that live."""
        return self._live_heartbeats.get(region.name, [])

    @cached_property
    def _live_heartbeats(self) -> dict[str, list[Heartbeat]]:
        return {
            region: [beat for beat in beats if beat.is_alive(self.now, self.window)]
            for region, beats in self._heartbeats.items()
        }

    @cached_property
    def _heartbeats(self) -> dict[str, list[Heartbeat]]:
        """Of all workers, by region; of those cells that the region serves and that can be read.

        A cell that cannot be read says nothing of its workers, not that they are gone.
        """
        served = {region.name: set(self.topology.served_cells(region)) for region in self.topology.regions}
        by_region: dict[str, list[Heartbeat]] = {}
        for cell, reading in self.readings.cells.items():
            if not self._is_fresh(reading.listed_at):
                continue
            for beat in reading.heartbeats.values():
                region = region_of(beat.queue)
                if region in served and cell in served[region]:
                    by_region.setdefault(region, []).append(beat)
        return by_region

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
