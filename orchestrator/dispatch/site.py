"""What a region's worker brings to the steps that it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.backends import Backends
from orchestrator.fleet import RegionHealth, StepTimes
from orchestrator.streams import StreamPiece
from orchestrator.topology import Region

Publish = Callable[[str, StreamPiece], None]
"""Hands a piece of text to the listeners of a run, given the run's root workflow id."""


@dataclass(frozen=True)
class Site:
    """The region of a worker, its backends, and where it notes times, load and pieces."""

    region: Region
    backends: Backends
    times: StepTimes = field(default_factory=StepTimes)
    publish: Publish | None = None
    health: RegionHealth = field(default_factory=RegionHealth)
    """What its runs see of the regions that they send steps to."""

    busy: Counter[str] = field(default_factory=Counter[str])
    """How many queued steps run at this moment, by kind."""
