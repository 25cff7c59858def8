"""Whether a step that takes unusually long goes to another place as well, and how often that may be.

A hedge is wanted when a step has not come back within the p95 that was learned before its run
started. Whether there may be one depends on how many there were, and on what is seen of the region.
Both are live, so a run asks in a local activity: its answer is in the history, and a replay takes
the same way.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from temporalio import activity

from orchestrator.fleet import RegionHealth

HEDGE_ACTIVITY = "edgeward.hedge"

EXTRA_SHARE = 0.03
"""Of the steps that might be hedged, so many may be: the load that hedging adds at the most."""

SIGHTING = 2
"""With this question, at three times its p95, a step says something about its region."""

LATE = "its steps take unusually long"
"""What it says."""

MOST_SAVED = 8.0
"""So many hedges can be saved up while nothing is slow, and a process begins with them: enough to find out
that a region is."""


class HedgeBudget:
    """Hedges that a process may still make. May be used from any thread."""

    def __init__(self) -> None:
        self._saved = MOST_SAVED
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A step was dispatched that might be hedged."""
        with self._lock:
            self._saved = min(self._saved + EXTRA_SHARE, MOST_SAVED)

    def take(self) -> bool:
        """Whether there may be one more now; if so, it counts."""
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True


hedge_budget = HedgeBudget()
"""The one of this process: workflows earn, what asks takes."""


def may_leave(
    region: str, others: Sequence[str], health: RegionHealth, *, question: int, moved: bool = False
) -> bool:
    """Whether a step that takes unusually long may go elsewhere.

    What waits in a region that is set aside may always: it is placed again, as from one that is dead.

    Args:
        region: Where it is.
        others: Where it could go.
        health: What this process sees of the regions. The second question counts against the region.
        question: How often it has been asked, from 1.
        moved: Whether the step is in another place than its plan has first: what is unusual there is not
            known, so that it does not count, and may only leave if the region is set aside.
    """
    if moved:
        return health.is_set_aside(region, others)
    if question == SIGHTING:
        health.failed(region, LATE, surely=False)
    return health.is_set_aside(region, others) or hedge_budget.take()


class HedgeQuestions:
    """Answers the runs of a worker.

    Args:
        health: What the worker sees of the regions.
    """

    def __init__(self, health: RegionHealth) -> None:
        self._health = health

    @activity.defn(name=HEDGE_ACTIVITY)
    async def may_hedge(self, region: str, others: list[str], question: int, moved: bool) -> bool:
        """Whether a step that takes unusually long in a region may be dispatched a second time."""
        return may_leave(region, others, self._health, question=question, moved=moved)
