"""A step that goes on to its next place when one cannot do it, and its hedge.

Everything here runs in workflows. What leads to the next place is a failure in history, so a replay
takes the same way: as many activities, the same pauses. *Which* region comes next is ordered by what
the home's worker sees at that moment, and that is no part of the comparison: replay does not look at
an activity's queue. So the live order may move a place, and never take one away, or turn a queued
step into an inline one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, NamedTuple, cast

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError, TimeoutError, TimeoutType

from orchestrator.dispatch.failures import SET_ASIDE, TAKES_LONG, cause_of, refused, was_not_taken
from orchestrator.dispatch.headers import EarlierPlace
from orchestrator.dispatch.redispatch import Redispatched
from orchestrator.dispatch.steps.hedging import SIGHTING
from orchestrator.errors import Recovery
from orchestrator.fleet import RegionHealth
from orchestrator.placement import Candidate, WithoutPlace

SLOT_WAIT = timedelta(milliseconds=1500)
"""How long a step waits in a place's queue for a worker, beyond the wait that was predicted, before it
goes to its next place. Doubled each time around, up to ``LONGEST_SLOT_WAIT``: where all are busy,
moving on helps nobody."""

LONGEST_SLOT_WAIT = timedelta(seconds=30)

HEARTBEAT_TIMEOUT = timedelta(seconds=2)
"""A worker that has not been heard of for so long is taken for dead, and its step is placed again."""

SHORTEST_ROUND = timedelta(milliseconds=500)
"""Once around all places takes at least this long, doubled each time up to ``LONGEST_ROUND``."""

LONGEST_ROUND = timedelta(seconds=30)

_NOT_STARTED = "no worker took it in time"
_SILENT = "its worker fell silent"
_TIMED_OUT = "it timed out there"
_SET_ASIDE = "the region is set aside"
_LEFT = "it took unusually long there"
_OVERTAKEN = "another region was faster, though it began later"


@dataclass(frozen=True)
class PlaceFailure:
    """Why a place did not do a step, for reasons of its own."""

    reason: str
    surely: bool = False
    """Whether one such failure says enough about the region."""

    begun: bool = True
    """Whether the step may have begun there."""

    noted: bool = False
    """Whether the worker there has told what it says about the region."""


def failure_of_place(error: FailureError, *, repeatable: bool) -> PlaceFailure | None:
    """What kept the place from doing the step; None if it failed for the step's own reasons.

    Args:
        error: What the activity ended with.
        repeatable: Whether the step may run again. One that may not goes elsewhere only if it surely
            did not run: nobody took it, or its endpoint was not reached.
    """
    cause = cause_of(error)
    if was_not_taken(cause):
        return PlaceFailure(_NOT_STARTED, surely=True, begun=False)
    if isinstance(cause, TimeoutError):
        if not repeatable:
            return None
        if cause.type == TimeoutType.HEARTBEAT:
            return PlaceFailure(_SILENT, surely=True)
        return PlaceFailure(_TIMED_OUT) if cause.type == TimeoutType.START_TO_CLOSE else None
    if not isinstance(cause, ApplicationError) or not cause.details:
        return None
    details: Any = cause.details[0]
    recovery = cast("dict[str, Any]", details).get("recovery") if isinstance(details, dict) else None
    if recovery != Recovery.ELSEWHERE:
        return None  # it has been tried here as often as its policy allows, or fails anywhere
    if not repeatable and cause.type != "BackendUnreachableError":
        return None
    if cause.type == SET_ASIDE:
        return PlaceFailure(_SET_ASIDE, begun=False, noted=True)
    if cause.type == TAKES_LONG:
        return PlaceFailure(_LEFT, noted=True)
    return PlaceFailure(cause.type or "backend")


class Dispatching(NamedTuple):
    """One dispatch of a step to a place."""

    place: Candidate
    attempt: int
    """From 1; hedges count."""

    earlier: tuple[EarlierPlace, ...]
    slot_wait: timedelta | None
    """How long it may wait for a worker there; None where it has no other place to go to."""

    hedge: bool = False
    """Whether the step runs elsewhere as well."""

    passed_over: tuple[EarlierPlace, ...] = ()
    """Places that come before this one in the plan, and what was seen of their regions."""

    moved: bool = False
    """Whether this is not the plan's first place, or not the first time there: then it is queued."""

    leave_after: timedelta | None = None
    """After how long it takes unusually long there, if it is inline."""

    leave_to: tuple[str, ...] = ()
    """The regions to which it could go then."""


Start = Callable[[Dispatching], workflow.ActivityHandle[Any]]


class _Choice(NamedTuple):
    place: Candidate
    left: list[Candidate]
    passed_over: tuple[EarlierPlace, ...] = ()


@dataclass(frozen=True)
class Places:
    """Where a step may go, and under which rules.

    Args:
        step: Its name.
        candidates: Of its plan, ranked: the places that its residency and its block allow.
        repeatable: Whether it may run again.
        without_place: What to do when none can do it.
        attempts: How often it may start in all; None for without end.
        ends_at: When the author's own deadline for all attempts ends; None without one.
        health: What the home's worker sees of the regions.
        hedge_after: When the step takes unusually long in its first place; None where it may.
        hedge_questions: How often to ask then.
        may_hedge: Asks whether it may be dispatched a second time, given the region that takes long,
            the others, the number of the question, from 1, and whether that region is not the plan's first.
    """

    step: str
    candidates: Sequence[Candidate]
    repeatable: bool
    without_place: WithoutPlace
    attempts: int | None
    ends_at: datetime | None
    health: RegionHealth
    hedge_after: timedelta | None
    hedge_questions: int
    may_hedge: Callable[[str, Sequence[str], int, bool], workflow.ActivityHandle[Any]]

    def choice(self, left: Sequence[Candidate]) -> _Choice:
        """The place to go to, by what is seen of the regions at this moment.

        What a replay sees now is not why a step went where it did. There the plan's order is the better
        guess, so that the place which failed is not the next one.
        """
        ordered = left if workflow.unsafe.is_replaying() else self.health.ordered(left, _region)
        place, *rest = ordered
        if place is left[0]:
            return _Choice(place, rest)
        passed_over = tuple(
            EarlierPlace(place=one.region, reason=self.health.trouble_of(one.region) or "it was in trouble")
            for one in takewhile(lambda one: one is not place, left)
        )
        return _Choice(place, rest, passed_over)


class PlacedStep(Redispatched):
    """One call of a step that has more than one place, on its way through them.

    Args:
        places: Where it may go.
        start: Schedules it in one of them.
    """

    def __init__(self, places: Places, start: Start) -> None:
        self._places = places
        self._start = start
        self._attempt = 0
        self._begun = 0
        self._round = 0
        self._earlier: tuple[EarlierPlace, ...] = ()
        self._left: list[Candidate] = []
        self._round_began_at = workflow.now()
        first, *rest = places.candidates
        choice = places.choice(places.candidates) if first.dispatch == "queue" else _Choice(first, rest)
        super().__init__(places.step, self._start_in(choice))

    async def _carry_out(self) -> Any:
        while True:
            try:
                result = await (self._first_of_two() if self._is_hedged() else self._running)
            except FailureError as error:
                failure = failure_of_place(error, repeatable=self._places.repeatable)
                if failure is None or self._has_no_attempt_left(failure):
                    raise
                self._note_failure(failure)
                choice = await self._next(error)
                if self._is_over():
                    raise
                self._running = self._start_in(choice)
            else:
                self._note_success()
                return result

    def _is_hedged(self) -> bool:
        # by the plan and not by where it is, which is live
        queued = self._places.candidates[0].dispatch == "queue"
        return self._places.hedge_after is not None and queued and not self._earlier and bool(self._left)

    async def _first_of_two(self) -> Any:
        """The result of the step, or of a second dispatch of it if the first takes unusually long."""
        question = await self._question_that_allows_a_hedge()
        if question is None:
            return await self._running
        first, first_place, started_at = self._running, self._place, self._started_at
        says_something = question < SIGHTING and not self._moved
        second = self._running = self._start_in(self._places.choice(self._left), hedge=True)
        try:
            result = await _first_success(first, second)
        finally:
            # whatever happened, nobody waits for them any more
            for handle in (first, second):
                handle.add_done_callback(_retrieve)
                handle.cancel()
        if not second.done() or second.cancelled():
            self._place, self._started_at = first_place, started_at
        elif says_something and not workflow.unsafe.is_replaying():
            self._places.health.failed(first_place.region, _OVERTAKEN, surely=False)
        return result

    async def _question_that_allows_a_hedge(self) -> int | None:
        """Waits until there may be one; None if the first dispatch came back before, or there may be none."""
        after = self._places.hedge_after
        assert after is not None
        for question in range(1, self._places.hedge_questions + 1):
            done, _ = await workflow.wait([self._running], timeout=after.total_seconds())
            if done:
                return None
            try:
                if await self._places.may_hedge(self._place.region, self._others(), question, self._moved):
                    return question
            except FailureError:
                return None  # the worker does not know the question: it is not one of a region
            after *= 2
        return None

    def _start_in(self, choice: _Choice, *, hedge: bool = False) -> workflow.ActivityHandle[Any]:
        place = self._place = choice.place
        self._left = choice.left
        self._attempt += 1
        self._started_at = workflow.now()
        wait = min(SLOT_WAIT * 2**self._round, LONGEST_SLOT_WAIT)
        wait += timedelta(milliseconds=place.cost.wait_ms + place.cost.network_ms)
        self._moved = self._attempt > 1 or place is not self._places.candidates[0]
        # a step that may begin only once would fail by leaving
        may_leave = place.dispatch == "inline" and bool(self._left) and self._places.attempts != 1
        leave_after = self._places.hedge_after if may_leave else None
        dispatching = Dispatching(
            place,
            self._attempt,
            self._earlier,
            wait,
            hedge,
            choice.passed_over,
            moved=self._moved,
            leave_after=leave_after,
            leave_to=() if leave_after is None else self._others(),
        )
        return self._start(dispatching)

    def _others(self) -> tuple[str, ...]:
        return tuple(candidate.region for candidate in self._left)

    def _has_no_attempt_left(self, failure: PlaceFailure) -> bool:
        if self._is_over():
            return True
        if failure.begun:
            self._begun += 1
        return self._places.attempts is not None and self._begun >= self._places.attempts

    def _is_over(self) -> bool:
        return self._places.ends_at is not None and workflow.now() >= self._places.ends_at

    async def _next(self, error: FailureError) -> _Choice:
        """The next place, after a pause where all have been tried."""
        if not self._left:
            if self._places.without_place == "fail":
                raise self._without_place() from error
            shortest = min(SHORTEST_ROUND * 2**self._round, LONGEST_ROUND)
            pause = shortest - (workflow.now() - self._round_began_at)
            if pause > timedelta():
                await workflow.sleep(pause)
            self._round_began_at = workflow.now()
            self._round += 1
            self._left = list(self._places.candidates)
        return self._places.choice(self._left)

    def _without_place(self) -> ApplicationError:
        tried = "; ".join(f"{earlier.place}: {earlier.reason}" for earlier in self._earlier)
        return refused(
            f"step {self._places.step} has no place left: {tried}; the agent declares without_place='fail'",
            rule="no place left",
        )

    def _note_failure(self, failure: PlaceFailure) -> None:
        earlier = EarlierPlace(place=self._place.region, reason=failure.reason)
        self._earlier = (*self._earlier, earlier)[-MOST_EARLIER:]
        if not failure.noted and not workflow.unsafe.is_replaying():
            self._places.health.failed(self._place.region, failure.reason, surely=failure.surely)

    def _note_success(self) -> None:
        if self._place.dispatch == "inline" and self._attempt == 1:
            return
        if not workflow.unsafe.is_replaying():
            predicted = timedelta(milliseconds=self._place.cost.predicted_ms)
            self._places.health.succeeded(self._place.region, workflow.now() - self._started_at, predicted)


MOST_EARLIER = 16
"""So many of the places that were tried are told to the next one."""


async def _first_success(*handles: workflow.ActivityHandle[Any]) -> Any:
    """The first result; if both fail, the last failure."""
    waiting = list(handles)
    while True:
        await workflow.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        handle = next(handle for handle in waiting if handle.done())
        waiting.remove(handle)
        try:
            return await handle
        except FailureError:
            if not waiting:
                raise


def _retrieve(handle: asyncio.Task[Any]) -> None:
    if not handle.cancelled():
        handle.exception()


def _region(candidate: Candidate) -> str:
    return candidate.region
