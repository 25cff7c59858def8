"""The live view of the regions at one moment, as placement reads it. ``fleet`` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from orchestrator.placement.profile import RunTime

RegionState = Literal["unknown", "up", "draining", "down"]


@dataclass(frozen=True)
class QueueReading:
    """One task queue: how many tasks wait in it, and the slots of the workers that serve it."""

    backlog: int = 0
    slots: int | None = None
    busy: int = 0

    def expected_wait_ms(self, run_ms: float) -> float:
        """How long one more task waits: the tasks ahead of it, served slot by slot."""
        if self.slots is None:
            return self.backlog * run_ms
        ahead = self.backlog + self.busy - self.slots + 1
        return max(0, ahead) / max(1, self.slots) * run_ms


@dataclass(frozen=True)
class RegionReading:
    """What is known of one region."""

    state: RegionState = "unknown"
    queues: Mapping[str, QueueReading] = field(default_factory=dict[str, QueueReading])
    """By kind of step."""


@dataclass(frozen=True)
class Snapshot:
    """An immutable, dated reading of the fleet. An empty one means: nothing is known yet."""

    taken_at: datetime | None = None
    regions: Mapping[str, RegionReading] = field(default_factory=dict[str, RegionReading])
    run_times: Mapping[tuple[str, str], RunTime] = field(default_factory=dict[tuple[str, str], RunTime])
    """Learned, by step and region."""

    rtt_ms: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    """Probed, by a region and the region that it reached."""

    cells_down: frozenset[str] = frozenset()
    """Cells whose server does not answer: no run can start there."""

    def region(self, name: str) -> RegionReading:
        """The reading of this region; an unknown one if there is none."""
        return self.regions.get(name, _UNREAD)


_UNREAD = RegionReading()
