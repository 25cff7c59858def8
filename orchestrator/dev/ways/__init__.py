"""The same agent run in four ways, measured: all central, half and half, and placed by Edgeward.

Needs nothing but Temporal servers, which a topology names; the distances between its regions
are emulated (``orchestrator.dev.wan``). ``edgeward demo`` ends with it, and the ``wan`` bench runs it
for users all over the world.
"""

from orchestrator.dev.ways.agents import INSTANT, STEPS, Workload, application, expected_answer, served
from orchestrator.dev.ways.callers import WAYS, Answer, Ask, Leg, Way, nearest_region, user
from orchestrator.dev.ways.comparison import CENTRAL, Comparison, WayTimes, compare, measured_apart
from orchestrator.dev.ways.workers import workers

__all__ = [
    "CENTRAL",
    "INSTANT",
    "STEPS",
    "WAYS",
    "Answer",
    "Ask",
    "Comparison",
    "Leg",
    "Way",
    "WayTimes",
    "Workload",
    "application",
    "compare",
    "expected_answer",
    "measured_apart",
    "nearest_region",
    "served",
    "user",
    "workers",
]
