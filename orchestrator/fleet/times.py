"""How long steps take where: quantiles over a sliding window of what was seen."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta

from orchestrator.placement import RunTime

WINDOW = 200
"""How many of the latest calls count, per step and region."""

OLDEST = timedelta(minutes=30)
"""Calls before that say little about now: another model may be loaded, another load be on."""

_SHORTEST_MS = 0.001
"""A run time is never zero: a clock may not have advanced between start and end."""


class StepTimes:
    """Run times of steps, learned from the calls that a process ran or watched.

    Holds the latest calls of each step in each region and answers with their p50 and p95. May
    be used from several threads: activities that run in threads record here too.

    Args:
        window: How many of the latest calls count, per step and region.
        oldest: Calls older than this do not count.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        window: int = WINDOW,
        oldest: timedelta = OLDEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if window < 1 or oldest <= timedelta():
            raise ValueError(f"a window holds at least one call and some time, not {window} and {oldest}")
        self._window = window
        self._oldest_s = oldest.total_seconds()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], deque[tuple[float, float]]] = {}

    def record(self, step: str, region: str, duration: timedelta) -> None:
        """Note one call.

        Args:
            step: The activity's name.
            region: Where it ran.
            duration: Of its body, without dispatch and waiting. Below zero (a clock that was set
                back) counts as the shortest.
        """
        duration_ms = max(_SHORTEST_MS, duration / timedelta(milliseconds=1))
        with self._lock:
            calls = self._seen.get((step, region))
            if calls is None:
                calls = self._seen[step, region] = deque(maxlen=self._window)
            calls.append((self._clock(), duration_ms))

    def run_times(self) -> dict[tuple[str, str], RunTime]:
        """p50 and p95 (nearest rank) by step and region, of the calls that count."""
        with self._lock:
            self._forget_old()
            seen = {key: [duration_ms for _, duration_ms in calls] for key, calls in self._seen.items()}
        return {key: _quantiles(durations_ms) for key, durations_ms in seen.items()}

    def all_steps(self, region: str) -> RunTime | None:
        """p50 and p95 of all steps in a region together; None where no call counts."""
        with self._lock:
            self._forget_old()
            durations_ms = [
                duration_ms
                for (_, place), calls in self._seen.items()
                if place == region
                for _, duration_ms in calls
            ]
        return _quantiles(durations_ms) if durations_ms else None

    def _forget_old(self) -> None:
        since = self._clock() - self._oldest_s
        for key, calls in list(self._seen.items()):
            while calls and calls[0][0] < since:
                calls.popleft()
            if not calls:
                del self._seen[key]


def _quantiles(durations_ms: list[float]) -> RunTime:
    ordered = sorted(durations_ms)
    return RunTime(_nearest_rank(ordered, 0.50), _nearest_rank(ordered, 0.95), len(ordered))


def _nearest_rank(ordered: list[float], quantile: float) -> float:
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)]
