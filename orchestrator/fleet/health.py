"""Which regions do their steps, as one process sees it from the steps that it sends there.

Probes tell whether a region answers; the steps themselves tell whether it works. A region whose
steps fail for its own reasons, or take many times as long as predicted, is set aside: steps go to
the next place of their plan while there is one. After a while a single step tries it again (the
half-open trial). If that succeeds the region gets a growing share of its steps back, over ten
seconds; if not, it is set aside for twice as long. So one bad answer moves no traffic for long, and
a region that wavers is asked less and less.

Nothing here takes a place away from a plan: it only orders places, and keeps an inline step from
beginning where another place is better. A step whose only place is in trouble still goes there.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import TypeVar

import structlog

from orchestrator.placement.snapshot import RegionState

log = structlog.get_logger(__name__)

WINDOW = 8
"""So many of the latest steps of a region count."""

FAILED_SHARE = 0.5
"""Of them, from which on a region is set aside, once ``LEAST`` have been seen."""

SLOW_FACTOR = 5.0
"""A region is slow if half of its latest steps took this many times as long as predicted …"""

SLOWER_THAN_OTHERS = 2.0
"""… and this many times as much as in the other regions: where all are slow, it is not the region."""

SLOW_FROM = timedelta(milliseconds=250)
"""What a step takes beyond its prediction counts from here on: short ones waver by themselves."""

LEAST = 4
"""A judgement by shares and times needs so many steps."""

ASIDE = timedelta(seconds=2)
"""How long the first time; doubled each time that follows, up to ``LONGEST_ASIDE``."""

LONGEST_ASIDE = timedelta(seconds=60)

TRIAL = timedelta(seconds=10)
"""A half-open trial that has not ended by then counts as lost, and another may begin."""

SLOW_START = timedelta(seconds=10)
"""Over which a region that is back gets its full share again."""

FORGIVEN_AFTER = timedelta(minutes=5)
"""Without trouble: the next time aside is a short one again."""

PlaceT = TypeVar("PlaceT")


class _Standing(IntEnum):
    """In the order in which places are preferred."""

    GOOD = 0
    ASIDE = 1
    AWAY = 2


@dataclass
class _Record:
    failed: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    slowness: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Of steps that succeeded: what they took over what was predicted."""

    aside_until: float | None = None
    times_aside: int = 0
    trial_until: float | None = None
    back_since: float | None = None
    reason: str | None = None


class RegionHealth:
    """What a process has learned of the regions that it sends steps to. May be used from any thread.

    Args:
        clock: Monotonic seconds.
        chance: Uniform in [0, 1): who is let through while a region comes back.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}
        self._states: Mapping[str, RegionState] = {}
        self._troubled = False

    def note_states(self, states: Mapping[str, RegionState]) -> None:
        """What probes say of the regions; replaces what they said before."""
        with self._lock:
            self._states = {name: state for name, state in states.items() if state in ("down", "draining")}
            self._look()

    def ordered(self, places: Sequence[PlaceT], region: Callable[[PlaceT], str]) -> Sequence[PlaceT]:
        """The same places, those whose regions are in trouble last, else in their order.

        Args:
            places: Ranked, best first.
            region: The region of a place.
        """
        if not self._troubled:
            return places
        with self._lock:
            now = self._clock()
            found = sorted(places, key=lambda place: self._standing(region(place), now))
            if found:
                self._note_trial(region(found[0]), now)
            return found

    def takes(self, region: str, others: Sequence[str]) -> bool:
        """Whether a step that is about to run in a region shall do so.

        Args:
            region: Where it is. A region that probes find away takes its steps: whoever asks is there.
            others: Where it could go. If none of them does its steps, it stays.
        """
        if not self._troubled:
            return True
        with self._lock:
            now = self._clock()
            aside = self._standing(region, now) == _Standing.ASIDE
            if aside and self._is_any_good(others, now):
                return False
            self._note_trial(region, now)
            return True

    def is_set_aside(self, region: str, others: Sequence[str]) -> bool:
        """Whether a step that waits in a region shall go elsewhere, because only that region is set aside.

        While one step tries a region again, it still counts as set aside.
        """
        if not self._troubled:
            return False
        with self._lock:
            record, now = self._records.get(region), self._clock()
            return record is not None and self._is_aside(record, now) and self._is_any_good(others, now)

    def succeeded(self, region: str, took: timedelta, predicted: timedelta) -> None:
        """A step came back from a region.

        Args:
            region: Where it ran.
            took: From its scheduling to its result.
            predicted: By the plan.
        """
        if region not in self._records and took - predicted < SLOW_FROM:
            return  # the ordinary case costs nothing
        with self._lock:
            record = self._records.setdefault(region, _Record())
            record.failed.append(False)
            late = took - predicted >= SLOW_FROM
            record.slowness.append(took / max(predicted, timedelta(milliseconds=1)) if late else 1.0)
            now = self._clock()
            if self._is_slow(region, record):
                self._set_aside(region, record, now, "its steps take many times as long as predicted")
            elif record.aside_until is not None and now >= record.aside_until:
                log.info("region.back", region=region)
                record.aside_until = record.trial_until = None
                record.back_since = now
                record.failed.clear()
                record.slowness.clear()
            self._look()

    def failed(self, region: str, reason: str, *, surely: bool) -> None:
        """A step came back undone, for the region's own reasons.

        Args:
            region: Where it should have run.
            reason: For people.
            surely: Whether one such failure says enough: nobody took the step, or its worker fell silent.
        """
        with self._lock:
            record = self._records.setdefault(region, _Record())
            record.failed.append(True)
            now = self._clock()
            share = sum(record.failed) / len(record.failed)
            trial = record.aside_until is not None and now >= record.aside_until
            if surely or trial or (len(record.failed) >= LEAST and share >= FAILED_SHARE):
                self._set_aside(region, record, now, reason)
            self._look()

    def trouble_of(self, region: str) -> str | None:
        """Why steps avoid a region at this moment, for people; None if nothing is known against it."""
        with self._lock:
            state, record = self._states.get(region), self._records.get(region)
            if state is not None:
                return f"the region is {state}"
            if record is None or self._standing(region, self._clock()) == _Standing.GOOD:
                return None
            if record.aside_until is None:
                return "the region comes back, and gets its share slowly"
            return f"the region is set aside: {record.reason}"

    def troubled(self) -> dict[str, str]:
        """Regions that are set aside or away at this moment, and why."""
        with self._lock:
            now = self._clock()
            found = {
                name: record.reason or ""
                for name, record in self._records.items()
                if record.aside_until is not None and now < record.aside_until
            }
            return {**found, **self._states}

    def _is_slow(self, region: str, record: _Record) -> bool:
        if len(record.slowness) < LEAST or _median(record.slowness) < SLOW_FACTOR:
            return False
        others = [
            value for name, other in self._records.items() if name != region for value in other.slowness
        ]
        return _median(record.slowness) >= SLOWER_THAN_OTHERS * (_median(others) if others else 1.0)

    def _set_aside(self, region: str, record: _Record, now: float, reason: str) -> None:
        if record.aside_until is not None and now < record.aside_until:
            return  # what was sent before comes back
        since = record.aside_until or record.back_since
        if since is not None and now - since > FORGIVEN_AFTER.total_seconds():
            record.times_aside = 0
        aside = min(ASIDE * 2**record.times_aside, LONGEST_ASIDE)
        record.times_aside = min(record.times_aside + 1, 16)
        record.aside_until, record.trial_until, record.back_since = now + aside.total_seconds(), None, None
        record.reason = reason
        record.slowness.clear()
        log.warning("region.set_aside", region=region, reason=reason, seconds=aside.total_seconds())

    def _standing(self, region: str, now: float) -> _Standing:
        if region in self._states:
            return _Standing.AWAY
        record = self._records.get(region)
        if record is None:
            return _Standing.GOOD
        if self._is_aside(record, now):
            return _Standing.ASIDE
        if record.back_since is not None:
            share = (now - record.back_since) / SLOW_START.total_seconds()
            return _Standing.GOOD if share >= 1 or self._chance() < max(share, 0.1) else _Standing.ASIDE
        return _Standing.GOOD

    def _is_any_good(self, regions: Sequence[str], now: float) -> bool:
        return any(self._standing(region, now) == _Standing.GOOD for region in regions)

    @staticmethod
    def _is_aside(record: _Record, now: float) -> bool:
        if record.aside_until is None:
            return False
        return now < record.aside_until or (record.trial_until is not None and now < record.trial_until)

    def _note_trial(self, region: str, now: float) -> None:
        """A step goes to a region: if the region was set aside, it is the one that tries it again."""
        record = self._records.get(region)
        if record is not None and record.aside_until is not None and now >= record.aside_until:
            record.trial_until = now + TRIAL.total_seconds()

    def _look(self) -> None:
        self._troubled = bool(self._states) or any(
            record.aside_until is not None or record.back_since is not None
            for record in self._records.values()
        )


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
