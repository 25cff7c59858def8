"""What the probes have read, each part with its date: values, and how one reading follows another.

Pure: every date is passed in. ``view`` judges from them, at a moment, what still counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.fleet.status import WorkerStatus

DOWN_AFTER = 3
"""Failures in a row before something counts as down: one lost packet is no outage."""

RECOVERED_AFTER = 2
"""Answers in a row before something that was down counts as up again."""

KEPT_RTTS = 32
"""Latest round trip times kept for each thing that is probed."""

HEARTBEAT_EVERY = timedelta(seconds=60)
"""Temporal's default, where a worker has sent only one heartbeat yet."""

LONG_POLL = timedelta(seconds=70)
"""A poller that waits for a task shows itself to the server this often at least."""

ProbeState = Literal["unknown", "up", "down"]


@dataclass(frozen=True)
class Window:
    """How long readings count, derived from how often the probes ask and how long they wait."""

    interval: timedelta
    deadline: timedelta = timedelta()
    """How long a probe may take."""

    @property
    def fresh(self) -> timedelta:
        """Older readings no longer count: three rounds in a row brought nothing new."""
        return 3 * self.interval + self.deadline

    def is_fresh(self, at: datetime | None, now: datetime) -> bool:
        """Whether something read at that time still counts."""
        return at is not None and now - at <= self.fresh


@dataclass(frozen=True)
class Liveness:
    """Whether something answers its probes, and since when it does not."""

    answered_at: datetime | None = None
    answers: int = 0
    """In a row."""

    failed_at: datetime | None = None
    failing_since: datetime | None = None
    """The first of the failures in a row."""

    failures: int = 0
    """In a row."""

    was_down: bool = False
    """It was down and has not yet shown, by answers in a row, that it is back."""

    reason: str | None = None
    """Why the latest probe failed; None if it did not."""

    def answered(self, at: datetime) -> Liveness:
        """After a probe that was answered."""
        answers = self.answers + 1
        return Liveness(answered_at=at, answers=answers, was_down=self.was_down and answers < RECOVERED_AFTER)

    def failed(self, at: datetime, reason: str) -> Liveness:
        """After a probe that was not answered."""
        failures = self.failures + 1
        return Liveness(
            answered_at=self.answered_at,
            failed_at=at,
            failing_since=self.failing_since or at,
            failures=failures,
            was_down=self.was_down or failures >= DOWN_AFTER,
            reason=reason,
        )

    def state(self, now: datetime, window: Window) -> ProbeState:
        """What it counts as at this moment.

        Unknown before the first answer, when nothing was read for a while, and during the
        half-open trial: after it was down, until it has answered several times in a row.
        """
        if self.failures >= DOWN_AFTER:
            return "down" if window.is_fresh(self.failed_at, now) else "unknown"
        if self.was_down or not window.is_fresh(self.answered_at, now):
            return "unknown"
        return "up"


@dataclass(frozen=True)
class RttSample:
    """One measured round trip."""

    at: datetime
    rtt_ms: float


@dataclass(frozen=True)
class RoundTrips:
    """The latest round trips to one thing."""

    samples: tuple[RttSample, ...] = ()

    def measured(self, at: datetime, rtts_ms: Iterable[float]) -> RoundTrips:
        """With more of them."""
        more = tuple(RttSample(at, rtt_ms) for rtt_ms in rtts_ms)
        return RoundTrips((*self.samples, *more)[-KEPT_RTTS:])

    def rtt_ms(self, now: datetime, window: Window) -> float | None:
        """The shortest of those that still count.

        The network sets a floor; what lies above it is the load of the machines at both ends.
        """
        return min(
            (sample.rtt_ms for sample in self.samples if window.is_fresh(sample.at, now)), default=None
        )


@dataclass(frozen=True)
class Heartbeat:
    """The latest heartbeat of one Temporal worker, as its cell lists it."""

    worker: str
    """The worker's instance key."""

    queue: str
    shutting_down: bool
    beat_at: datetime
    """On the worker's clock."""

    every: timedelta | None
    """The time between its latest two heartbeats; None before the second one."""

    slots: int | None
    """For activities; None where the worker's slot supplier does not say."""

    busy: int
    seen_at: datetime
    """When this process first saw this heartbeat: on its own clock, so that clocks that differ
    between machines do no harm."""

    def following(self, previous: Heartbeat | None) -> Heartbeat:
        """Dated, given what was read of the same worker before.

        At first sight nothing tells how old it is but its own date: a server lists workers that
        were killed for hours. From the second reading on a heartbeat is as old as its sight.
        """
        if previous is None:
            return replace(self, seen_at=min(self.seen_at, self.beat_at))
        if previous.beat_at == self.beat_at:
            return replace(self, seen_at=previous.seen_at)
        return self

    def is_alive(self, now: datetime, window: Window) -> bool:
        """Whether its next heartbeat is not long overdue."""
        return now - self.seen_at <= 2 * (self.every or HEARTBEAT_EVERY) + window.fresh


@dataclass(frozen=True)
class CellReading:
    """What is known of one cell."""

    liveness: Liveness = Liveness()
    round_trips: RoundTrips = RoundTrips()
    heartbeats: Mapping[str, Heartbeat] = field(default_factory=dict[str, Heartbeat])
    """Of the workers that it lists, by instance key."""

    listed_at: datetime | None = None
    """When it last listed its workers. None: never, as of servers that cannot."""

    draining: frozenset[str] = frozenset()
    """Regions of this cell that an operator has drained. It stays until the cell says otherwise."""

    def listed(self, at: datetime, heartbeats: Iterable[Heartbeat]) -> CellReading:
        """After its workers were listed."""
        dated = {beat.worker: beat.following(self.heartbeats.get(beat.worker)) for beat in heartbeats}
        return replace(self, heartbeats=dated, listed_at=at)


@dataclass(frozen=True)
class ControlEndpointReading:
    """What a region's worker said at its control endpoint, and how far away it is."""

    liveness: Liveness = Liveness()
    round_trips: RoundTrips = RoundTrips()
    status: WorkerStatus | None = None
    """Its latest answer, as old as ``liveness.answered_at``."""

    def answered(self, at: datetime, status: WorkerStatus, rtt_ms: float) -> ControlEndpointReading:
        """After an answer."""
        return ControlEndpointReading(
            self.liveness.answered(at), self.round_trips.measured(at, [rtt_ms]), status
        )

    def failed(self, at: datetime, reason: str) -> ControlEndpointReading:
        """After none."""
        return replace(self, liveness=self.liveness.failed(at, reason))


@dataclass(frozen=True)
class QueueStatistics:
    """One task queue in one cell."""

    read_at: datetime
    backlog: int
    polled_at: datetime | None
    """On the server's clock; None if it lists no poller."""

    seen_at: datetime | None = None
    """When this process first saw that date: on its own clock."""

    def following(self, previous: QueueStatistics | None) -> QueueStatistics:
        """Dated, given what was read of the same queue before; as a heartbeat is."""
        if self.polled_at is None:
            return self
        if previous is None or previous.polled_at is None:
            return replace(self, seen_at=min(self.read_at, self.polled_at))
        if previous.polled_at == self.polled_at:
            return replace(self, seen_at=previous.seen_at)
        return replace(self, seen_at=self.read_at)

    def is_polled(self, now: datetime, window: Window, *, after: datetime | None = None) -> bool:
        """Whether somebody waits for its tasks, as far as a long poll can tell.

        Args:
            now: The moment.
            window: How long readings count.
            after: The last heartbeat of workers that beat no more: their last polls linger.
        """
        if self.seen_at is None or (after is not None and self.seen_at <= after + LONG_POLL):
            return False
        return now - self.seen_at <= LONG_POLL + window.fresh


@dataclass(frozen=True)
class Readings:
    """Everything that was read."""

    cells: Mapping[str, CellReading] = field(default_factory=dict[str, CellReading])
    """By cell."""

    controls: Mapping[str, ControlEndpointReading] = field(default_factory=dict[str, ControlEndpointReading])
    """By region."""

    queues: Mapping[tuple[str, str], QueueStatistics] = field(
        default_factory=dict[tuple[str, str], QueueStatistics]
    )
    """By cell and task queue."""
