"""Where the wall time of a step goes: parts that add up to it.

| part | from … to | whose clock |
|---|---|---|
| dispatch | the agent's code called the step … the step was scheduled | server |
| retries | first scheduling … scheduling of the attempt that counts | server |
| queue wait | scheduled … handed to a worker | server |
| delivery | handed out … the body began | what is left of the wire |
| execution | the body | worker, monotonic |
| return | the body ended … the workflow task began that has the result | what is left, and server |

The two ways over the wire are known as a sum only: it is what the server saw beyond the body. Where
the worker's clock agrees with the server's, delivery is their difference; else each way is half.
An inline step crosses no wire: what is not its body is the SDK's dispatch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, computed_field

from orchestrator.timing import StepTiming

PARTS: tuple[str, ...] = ("dispatch", "retries", "queue_wait", "delivery", "execution", "return")
"""In the order in which they follow each other."""


class StepParts(BaseModel):
    """The parts of one step, in milliseconds."""

    model_config = ConfigDict(frozen=True)

    dispatch_ms: float = 0.0
    retries_ms: float = 0.0
    queue_wait_ms: float = 0.0
    delivery_ms: float = 0.0
    execution_ms: float = 0.0
    return_ms: float = 0.0
    clock_skew_ms: float | None = None
    """How far the worker's clock is from the server's, at the least; None where they agree."""

    @computed_field
    @property
    def sum_ms(self) -> float:
        """All of them."""
        return sum(self.by_name().values())

    def by_name(self) -> dict[str, float]:
        """Each part by its name in ``PARTS``."""
        return {part: float(getattr(self, f"{part}_ms")) for part in PARTS}


@dataclass(frozen=True)
class QueuedTimes:
    """What history tells of a queued step, on the server's clock. None: it has not come to that."""

    called: datetime
    """By the agent's code."""

    scheduled: datetime
    started: datetime | None
    closed: datetime | None
    resumed: datetime | None
    """The workflow task that has its result."""

    attempts: int


def queued_parts(times: QueuedTimes, timing: StepTiming | None) -> StepParts:
    """The parts of a step that came back."""
    dispatch_ms = _ms(times.scheduled, times.called)
    closed = times.closed or times.scheduled
    back_ms = _ms(times.resumed, closed) if times.resumed else 0.0
    attempt_scheduled = _attempt_scheduled(times, timing)
    retries_ms = _ms(attempt_scheduled, times.scheduled)
    if times.started is None:
        # nobody took it
        return StepParts(
            dispatch_ms=dispatch_ms,
            retries_ms=retries_ms,
            queue_wait_ms=_ms(closed, attempt_scheduled),
            return_ms=back_ms,
        )
    out_ms = _ms(closed, times.started)
    execution_ms = min(timing.execution_ms, out_ms) if timing else out_ms
    wire_ms = out_ms - execution_ms
    delivery_ms, skew_ms = _delivery(times.started, wire_ms, timing)
    return StepParts(
        dispatch_ms=dispatch_ms,
        retries_ms=retries_ms,
        queue_wait_ms=_ms(times.started, attempt_scheduled),
        delivery_ms=delivery_ms,
        execution_ms=execution_ms,
        return_ms=wire_ms - delivery_ms + back_ms,
        clock_skew_ms=skew_ms,
    )


def inline_parts(
    took_ms: float, timing: StepTiming | None, attempts: int, skew_ms: float | None = None
) -> StepParts:
    """The parts of a step that ran in the home's own process.

    Args:
        took_ms: From its call to its end.
        timing: What the worker said of it.
        attempts: How often it was tried.
        skew_ms: How far the worker's clock is from the server's; no part depends on it.
    """
    execution_ms = min(timing.execution_ms, took_ms) if timing else took_ms
    beside_ms = took_ms - execution_ms
    if attempts > 1:
        return StepParts(retries_ms=beside_ms, execution_ms=execution_ms, clock_skew_ms=skew_ms)
    return StepParts(dispatch_ms=beside_ms, execution_ms=execution_ms, clock_skew_ms=skew_ms)


def _attempt_scheduled(times: QueuedTimes, timing: StepTiming | None) -> datetime:
    """When the last attempt was scheduled. Without the worker's word a retry counts as waiting."""
    told = timing.attempt_scheduled_at if timing else None
    if told is None:
        return times.scheduled
    latest = times.started or times.closed or told
    return min(max(told, times.scheduled), latest)


def _delivery(started: datetime, wire_ms: float, timing: StepTiming | None) -> tuple[float, float | None]:
    """The way there, and by how much the clocks disagree if they do."""
    if timing is None:
        return 0.0, None
    apart_ms = timing.started_at * 1000 - started.timestamp() * 1000
    if 0 <= apart_ms <= wire_ms:
        return apart_ms, None
    return wire_ms / 2, apart_ms if apart_ms < 0 else apart_ms - wire_ms


def _ms(later: datetime, earlier: datetime) -> float:
    return max(0.0, (later - earlier) / timedelta(milliseconds=1))
