"""Inline steps as history tells them: one marker each, written by the SDK's core."""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent

from orchestrator.timing import StepTiming, timing_of
from orchestrator.trace.failures import error_text

INLINE_MARKER = "core_local_activity"
"""The name of the marker of a local activity, in the SDKs that share a core with Python's."""

FOREIGN_MARKER = "LocalActivity"
"""The same in the other SDKs, whose markers have other contents."""


@dataclass(frozen=True)
class InlineMarker:
    """One inline step as its marker tells it."""

    step: str
    activity_id: str
    attempts: int
    scheduled_at: datetime
    """By the clock of the worker."""

    complete_at: datetime
    """Workflow time when it was scheduled plus how long it took: the SDK's ``complete_time``."""

    recorded_at: datetime
    """On the server's clock."""

    completion: int
    """The event with which the turn that has it was completed."""

    result: Payload | None
    error: str | None

    @property
    def timing(self) -> StepTiming | None:
        """What the worker said beside the result; None if it said nothing that can be read."""
        return None if self.result is None else timing_of(self.result)

    @classmethod
    def of(cls, event: HistoryEvent) -> InlineMarker | None:
        """The step of a marker; None where the marker's data is damaged or of another kind."""
        marker = event.marker_recorded_event_attributes
        try:
            data: dict[str, Any] = json.loads(marker.details["data"].payloads[0].data)
            results: list[Payload] = []
            if "result" in marker.details:
                results.extend(marker.details["result"].payloads)
            return cls(
                step=str(data["activity_type"]),
                activity_id=str(data["activity_id"]),
                attempts=int(data["attempt"]),
                scheduled_at=_core_time(data["original_schedule_time"]),
                complete_at=_core_time(data["complete_time"]),
                recorded_at=event.event_time.ToDatetime(tzinfo=UTC),
                completion=marker.workflow_task_completed_event_id,
                result=results[0] if results else None,
                error=error_text(marker.failure) if marker.HasField("failure") else None,
            )
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            return None


@dataclass(frozen=True)
class InlineTimes:
    """When an inline step ran, on the server's clock."""

    marker: InlineMarker
    began_at: datetime
    took: timedelta
    skew_ms: float | None
    """How far the worker's clock is from the server's, at the least; None where they agree."""


def inline_times(markers: Iterable[InlineMarker], turns: Sequence[datetime]) -> Iterator[InlineTimes]:
    """When each inline step ran.

    The SDK writes no duration; it is ``complete_time`` minus workflow time at scheduling. Workflow time
    stands still between activities. So at scheduling it was the start of the turn, or the
    ``complete_time`` of the step whose end led to this one: the latest that had ended by then.

    Args:
        markers: Of one run.
        turns: When each turn of its code began, in order.
    """
    ends: list[tuple[datetime, datetime]] = []
    """End on the worker's clock, in order, and the latest ``complete_time`` up to it."""
    for marker in sorted(markers, key=lambda one: one.scheduled_at):
        began_at = _workflow_time(marker, turns, ends)
        took = marker.complete_at - began_at
        _note_end(ends, marker.scheduled_at + took, marker.complete_at)
        yield InlineTimes(marker, began_at, took, _skew_ms(marker, began_at))


def _workflow_time(
    marker: InlineMarker, turns: Sequence[datetime], ends: Sequence[tuple[datetime, datetime]]
) -> datetime:
    turn = bisect_right(turns, marker.complete_at)
    base = turns[turn - 1] if turn else marker.complete_at
    ended = bisect_right(ends, marker.scheduled_at, key=lambda end: end[0])
    if ended and base < ends[ended - 1][1] <= marker.complete_at:
        # later than the step's own end only where the worker's clock was set in between
        base = ends[ended - 1][1]
    return base


def _note_end(ends: list[tuple[datetime, datetime]], ended_at: datetime, complete_at: datetime) -> None:
    before = bisect_right(ends, ended_at, key=lambda end: end[0])
    latest = max(complete_at, ends[before - 1][1]) if before else complete_at
    insort(ends, (ended_at, latest), key=lambda end: end[0])
    for index in range(before + 1, len(ends)):
        ended, complete = ends[index]
        if complete >= latest:
            break
        ends[index] = ended, latest


def _skew_ms(marker: InlineMarker, began_at: datetime) -> float | None:
    """It was scheduled after workflow time then, and before its marker was recorded."""
    for bound, sign in ((began_at, -1), (marker.recorded_at, 1)):
        beyond_ms = (marker.scheduled_at - bound) / timedelta(milliseconds=1)
        if beyond_ms * sign > 0:
            return beyond_ms
    return None


def _core_time(value: Any) -> datetime:
    """Time as the SDK's core writes it into the marker: seconds and nanoseconds."""
    seconds, nanos = int(value["seconds"]), int(value["nanos"])
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos / 1000)
