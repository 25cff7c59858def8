"""How many runs may be open at a home: as many as end within the time that a caller waits.

What the fleet tells is a second or two old, and of what queues inside of an endpoint it tells nothing.
The client itself sees how fast the runs that it waits for end. By Little's law the next one would take as
long as the open ones take to end at that rate; if that is longer than usual by more than a caller waits,
it is refused.

Pure: it is told the time, knows no thread, and touches a few numbers for each run.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

ALWAYS_OPEN = 4
"""So many open runs say nothing of a queue: nobody is refused, and what they take is what a run takes."""

SAMPLES = 4
"""Before as many runs have ended nothing is known."""

LONGEST_USUAL = timedelta(seconds=30)
"""Runs that usually take longer wait for something else than a slot: for people, for days."""

COHORT = 10
"""Runs that started one after the other: the mean of all of them, once the last has ended, is not that of the
short ones."""

LONG, RELEARNED_AFTER = 1.2, 4.0
"""Runs that take longer than was allowed by that factor, for as many times what they take while others are
refused, do not wait in a queue."""

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 4.0, 120.0
"""Over which the rate is counted."""

USUAL_TIMES = 4.0
"""In between, the window is as long as so many usual runs."""

LEAST_SLACK = 0.5
"""Runs that take longer by so much of what is usual are not refused, however little their callers wait."""

MARGIN = 1.5
"""Run times differ: their rate is judged so much later than if all took the same."""

PARKED_AFTER, LOST_AFTER = 3.0, 30.0
"""Times the longest that an accepted run should take: one that is still open while nobody is refused does not
wait for a slot, and much later it does not in any case."""

QUICK = 1.5
"""Times what is usual: a run that took no longer has met no queue."""

TRIAL_S = 2.0
"""While all are refused and none ends, one is let in so often."""

NOT_AWAITED_S = 2.0
"""A run that was started, and whose answer nobody has asked for by then, is not followed."""

SOONEST, LATEST = timedelta(seconds=1), timedelta(seconds=30)
"""When it is worth another try."""


@dataclass(frozen=True)
class Full:
    """Why one more run is refused."""

    open: int
    ended_per_s: float
    retry_after: timedelta


@dataclass(slots=True)
class _Cohort:
    began_s: float
    pending: int = COHORT
    took_s: list[float] = field(default_factory=list[float])


@dataclass(slots=True)
class Ticket:
    """One open run. Made by ``OpenRuns.enter``."""

    entered_s: float
    quiet: bool
    """Whether so few runs were open that it met no queue."""

    trial: bool
    """Whether it was let in to find out if runs end."""

    cohort: _Cohort

    waited_from_s: float | None = None


class OpenRuns:
    """The open runs of one agent at one home.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.judged = False
        """Whether enough runs were open, for long enough, to tell how fast they end."""

        self._started: dict[int, Ticket] = {}
        """Whose answer nobody has asked for yet, the oldest first."""

        self._awaited: dict[int, Ticket] = {}
        self._reached_s: list[float] = []
        """By exponent of two: since when there are that many open runs."""

        self._ended_s: list[float] = []
        self._usual_s: float | None = None
        self._quiet_s: list[float] = []
        self._cohort = _Cohort(clock())
        self._cohort_left = COHORT
        self._allowed_s = math.inf
        self._long_since_s: float | None = None
        self._longest_s = 0.0
        self._entered_s = self._refused_s = self._quick_entered_s = -math.inf
        self._moved_s = -math.inf
        """When a run ended that was not let in to find out whether runs end."""

        self._may_try = False

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._started) + len(self._awaited)

    @property
    def usual(self) -> timedelta | None:
        """What a run takes where it meets no queue; None while that is not known."""
        return None if self._usual_s is None else timedelta(seconds=self._usual_s)

    def refusal(self, longest_wait: timedelta) -> Full | None:
        """Why one more run would wait longer than that; None if it may start. Sets ``judged``."""
        self.judged = self._may_try = False
        if self.open < ALWAYS_OPEN or self._usual_s is None:
            return None
        if self._usual_s > LONGEST_USUAL.total_seconds():
            return None
        now_s, usual_s, wait_s = self._clock(), self._usual_s, longest_wait.total_seconds()
        allowed_s = usual_s + max(wait_s, LEAST_SLACK * usual_s)
        calm = now_s - self._refused_s > PARKED_AFTER * allowed_s
        self._forget(now_s, (PARKED_AFTER if calm else LOST_AFTER) * allowed_s)
        is_open = self.open
        if is_open < ALWAYS_OPEN:
            return None
        window_s = min(max(SHORTEST_WINDOW_S, USUAL_TIMES * usual_s), LONGEST_WINDOW_S)
        # since a quarter of them were open: a number that sways around a power of two does not begin anew
        since_s = max(now_s - window_s, self._reached_s[is_open.bit_length() - 2])
        counted_s = now_s - since_s
        # of runs that began to come so long ago, and meet no queue, the last usual time's have not ended yet:
        # before this moment the rate of the others seems to be too low
        if counted_s < MARGIN * usual_s * allowed_s / (allowed_s - usual_s) or counted_s <= 0:
            return None
        self.judged = True
        ended = len(self._ended_s) - bisect_left(self._ended_s, since_s)
        rate = (ended + math.sqrt(ended)) / counted_s  # a few that happen to end late are no queue
        takes_s = (is_open + 1) / rate if rate else allowed_s + LATEST.total_seconds()
        if takes_s <= allowed_s:
            return None
        self._may_try = now_s - self._moved_s > wait_s and now_s - self._entered_s > max(usual_s, TRIAL_S)
        if self._may_try:
            return None
        self._refused_s, self._allowed_s = now_s, allowed_s
        after = min(max(timedelta(seconds=takes_s - allowed_s), SOONEST), LATEST)
        return Full(is_open, ended / counted_s, after)

    def enter(self) -> Ticket:
        """One more run starts."""
        now_s = self._clock()
        if self._cohort_left == 0:
            self._cohort, self._cohort_left = _Cohort(now_s), COHORT
        self._cohort_left -= 1
        quiet = self.open < ALWAYS_OPEN
        ticket = Ticket(now_s, quiet=quiet, trial=self._may_try, cohort=self._cohort)
        self._started[id(ticket)] = ticket
        self._entered_s = now_s
        exponent = self.open.bit_length() - 1
        if self.open == 1 << exponent:
            del self._reached_s[exponent:]
            self._reached_s.append(now_s)
        return ticket

    def wait(self, ticket: Ticket) -> None:
        """Somebody asks for its answer."""
        if self._started.pop(id(ticket), None) is not None:
            self._awaited[id(ticket)] = ticket
        if ticket.waited_from_s is None:
            ticket.waited_from_s = self._clock()

    def leave(self, ticket: Ticket, *, ended: bool, answered: bool = True) -> None:
        """It is open no more.

        Args:
            ticket: Which one.
            ended: Whether it has ended; else nobody waits for it any more, or it did not start.
            answered: Whether it ended with an answer.
        """
        known = self._awaited.pop(id(ticket), None) or self._started.pop(id(ticket), None)
        cohort, now_s = ticket.cohort, self._clock()
        cohort.pending -= 1
        if ended:
            self._note_end(now_s)
            if not ticket.trial:
                self._moved_s = now_s
            took_s = now_s - ticket.entered_s
            waited = ticket.waited_from_s is not None and now_s - ticket.waited_from_s >= took_s / 2
            if ticket.trial and self._usual_s is not None and took_s <= QUICK * self._usual_s:
                self._forget_passed(now_s, ticket.entered_s)
            if known is not None and answered and waited:
                cohort.took_s.append(took_s)
                if ticket.quiet:
                    self._learn(took_s)
        if not cohort.pending and len(cohort.took_s) >= COHORT / 2:
            self._note_cohort(now_s, cohort)

    def _note_end(self, now_s: float) -> None:
        self._ended_s.append(now_s)
        if len(self._ended_s) >= 1024 and self._ended_s[len(self._ended_s) // 2] < now_s - LONGEST_WINDOW_S:
            del self._ended_s[: bisect_left(self._ended_s, now_s - LONGEST_WINDOW_S)]

    def _learn(self, took_s: float) -> None:
        self._quiet_s.append(took_s)
        if len(self._quiet_s) >= SAMPLES:
            self._usual_s = sum(self._quiet_s) / len(self._quiet_s)
            del self._quiet_s[:-SAMPLES]

    def _note_cohort(self, now_s: float, cohort: _Cohort) -> None:
        """No run takes less than where it meets no queue. It may take more for good: that is learned, too."""
        mean_s = sum(cohort.took_s) / len(cohort.took_s)
        if self._usual_s is not None:
            self._usual_s = min(self._usual_s, mean_s)
        if self._refused_s < cohort.began_s or mean_s <= self._allowed_s * LONG:
            self._long_since_s, self._longest_s = None, 0.0
            return
        self._longest_s = max(self._longest_s, mean_s)
        if self._long_since_s is None:
            self._long_since_s = now_s
        elif now_s - self._long_since_s > RELEARNED_AFTER * self._longest_s:
            # a queue would have become shorter since others are refused: it is the runs that became longer
            self._long_since_s, self._longest_s = None, 0.0
            self._usual_s = mean_s

    def _forget_passed(self, now_s: float, entered_s: float) -> None:
        """Forgets those that came before two quick trials, and should have ended.

        They do not wait for a slot, but for what is broken. Counted as open they would keep out all others.
        """
        before_s = min(entered_s, self._quick_entered_s, now_s - self._allowed_s)
        self._quick_entered_s = entered_s
        for tickets in (self._started, self._awaited):
            for key in [key for key, ticket in tickets.items() if ticket.entered_s < before_s]:
                del tickets[key]

    def _forget(self, now_s: float, parked_after_s: float) -> None:
        for tickets, after_s in ((self._started, NOT_AWAITED_S), (self._awaited, parked_after_s)):
            while tickets:
                key, oldest = next(iter(tickets.items()))
                if now_s - oldest.entered_s <= after_s:
                    break
                del tickets[key]
