"""Whether a step that takes unusually long is dispatched a second time, and how often that may be.

A hedge is wanted when a step has not come back within the p95 that was learned before its run
started. Whether there may be one depends on how many there were, which is live, so it is asked in
a local activity: its answer is in the history, and a replay takes the same way.
"""

from __future__ import annotations

import threading

from temporalio import activity

HEDGE_ACTIVITY = "edgeward.hedge"

EXTRA_SHARE = 0.03
"""Of the steps that might be hedged, so many may be: the load that hedging adds at the most."""

MOST_SAVED = 5.0
"""So many hedges can be saved up while nothing is slow."""


class HedgeBudget:
    """Hedges that a process may still make. May be used from any thread."""

    def __init__(self) -> None:
        self._saved = 0.0
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
"""The one of this process: workflows earn, the activity takes."""


@activity.defn(name=HEDGE_ACTIVITY)
async def may_hedge() -> bool:
    """Asked by a run whose step takes long; runs in the home's worker."""
    return hedge_budget.take()
