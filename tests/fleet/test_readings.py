from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet.readings import (
    DOWN_AFTER,
    KEPT_RTTS,
    RECOVERED_AFTER,
    CellReading,
    Heartbeat,
    Liveness,
    QueueStatistics,
    RoundTrips,
    Window,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW = Window(interval=5 * SECOND)
OUTCOMES = st.lists(st.booleans(), max_size=40)


def lived(outcomes: list[bool], start: datetime = NOON) -> tuple[Liveness, datetime]:
    """After these answers (or failures), one a second; and when that is."""
    liveness, now = Liveness(), start
    for answered in outcomes:
        now += SECOND
        liveness = liveness.answered(now) if answered else liveness.failed(now, "refused")
    return liveness, now


def expected_state(outcomes: list[bool]) -> str:
    """The rule again, told as a story instead of folded."""
    state, in_a_row, last = "unknown", 0, None
    for answered in outcomes:
        in_a_row = in_a_row + 1 if answered == last else 1
        last = answered
        if not answered and in_a_row >= DOWN_AFTER:
            state = "down"
        elif answered and state == "unknown":
            state = "up"
        elif answered and state in {"down", "trial"}:
            state = "up" if in_a_row >= RECOVERED_AFTER else "trial"
    return "unknown" if state == "trial" else state


@given(OUTCOMES)
def test_the_state_follows_the_outcomes_of_the_probes(outcomes: list[bool]) -> None:
    liveness, now = lived(outcomes)
    assert liveness.state(now, Window(interval=timedelta(minutes=5))) == expected_state(outcomes)


@given(OUTCOMES, st.integers(min_value=16, max_value=10**6))
def test_a_state_that_nothing_renews_becomes_unknown(outcomes: list[bool], seconds: int) -> None:
    liveness, now = lived(outcomes)
    assert liveness.state(now + seconds * SECOND, WINDOW) == "unknown"


def test_single_failures_do_not_take_it_down() -> None:
    liveness, now = lived([True, False, False, True, False, False])
    assert liveness.state(now, WINDOW) == "up"


def test_the_half_open_trial_needs_answers_in_a_row() -> None:
    down, now = lived([True, False, False, False])
    assert down.state(now, WINDOW) == "down"

    trial = down.answered(now + SECOND)
    assert trial.state(now + SECOND, WINDOW) == "unknown"
    interrupted = trial.failed(now + 2 * SECOND, "refused").answered(now + 3 * SECOND)
    assert interrupted.state(now + 3 * SECOND, WINDOW) == "unknown"
    back = trial.answered(now + 2 * SECOND)
    assert back.state(now + 2 * SECOND, WINDOW) == "up"


def test_a_reason_is_kept_while_it_fails() -> None:
    failing, now = lived([True, False])
    assert failing.reason == "refused"
    assert failing.answered(now).reason is None


@given(st.lists(st.floats(min_value=0.1, max_value=1000), min_size=1, max_size=KEPT_RTTS))
def test_the_round_trip_time_is_the_shortest_that_counts(rtts_ms: list[float]) -> None:
    trips = RoundTrips().measured(NOON, rtts_ms)
    assert trips.rtt_ms(NOON + WINDOW.fresh, WINDOW) == min(rtts_ms)
    assert trips.rtt_ms(NOON + WINDOW.fresh + SECOND, WINDOW) is None


def test_a_path_that_became_longer_shows_once_the_old_round_trips_are_stale() -> None:
    trips = RoundTrips().measured(NOON, [20.0])
    for seconds in range(5, 25, 5):
        trips = trips.measured(NOON + seconds * SECOND, [180.0])
    assert trips.rtt_ms(NOON + 15 * SECOND, WINDOW) == 20.0
    assert trips.rtt_ms(NOON + 20 * SECOND, WINDOW) == 180.0


def test_no_more_round_trips_are_kept_than_needed() -> None:
    trips = RoundTrips()
    for _ in range(100):
        trips = trips.measured(NOON, [1.0, 2.0])
    assert len(trips.samples) == KEPT_RTTS


def beat(beat_at: datetime, seen_at: datetime, every: timedelta | None = 2 * SECOND) -> Heartbeat:
    return Heartbeat(
        worker="w1",
        queue="east.model",
        shutting_down=False,
        beat_at=beat_at,
        every=every,
        slots=4,
        busy=1,
        seen_at=seen_at,
    )


def test_a_worker_that_was_killed_long_ago_is_not_alive_at_first_sight() -> None:
    reading = CellReading().listed(NOON, [beat(NOON - timedelta(hours=1), NOON)])
    assert not reading.heartbeats["w1"].is_alive(NOON, WINDOW)


def test_a_worker_whose_clock_is_slow_is_alive_from_its_second_heartbeat_on() -> None:
    slow = timedelta(hours=1)
    reading = CellReading().listed(NOON, [beat(NOON - slow, NOON)])
    later = NOON + 2 * SECOND
    reading = reading.listed(later, [beat(later - slow, later)])
    assert reading.heartbeats["w1"].is_alive(later, WINDOW)


def test_a_worker_whose_clock_is_fast_dies_with_its_last_heartbeat() -> None:
    fast = timedelta(hours=1)
    reading = CellReading()
    for seconds in (0, 5, 10, 15, 20):
        now = NOON + seconds * SECOND
        reading = reading.listed(now, [beat(NOON + fast, now)])
    # two heartbeats of 2 s and three intervals of 5 s after it was first seen
    assert reading.heartbeats["w1"].is_alive(NOON + 19 * SECOND, WINDOW)
    assert not reading.heartbeats["w1"].is_alive(NOON + 20 * SECOND, WINDOW)


def test_before_the_second_heartbeat_the_next_may_take_the_default_time() -> None:
    reading = CellReading().listed(NOON, [beat(NOON, NOON, every=None)])
    assert reading.heartbeats["w1"].is_alive(NOON + timedelta(seconds=130), WINDOW)
    assert not reading.heartbeats["w1"].is_alive(NOON + timedelta(seconds=140), WINDOW)


def test_a_worker_that_is_listed_no_more_is_forgotten() -> None:
    reading = CellReading().listed(NOON, [beat(NOON, NOON)]).listed(NOON + SECOND, [])
    assert reading.heartbeats == {}


def test_a_queue_whose_pollers_do_not_return_is_not_polled() -> None:
    first = QueueStatistics(read_at=NOON, backlog=0, polled_at=NOON).following(None)
    later = NOON + timedelta(seconds=80)
    again = QueueStatistics(read_at=later, backlog=0, polled_at=NOON).following(first)
    assert again.is_polled(later, WINDOW)  # one long poll and three intervals
    assert not again.is_polled(later + 6 * SECOND, WINDOW)

    renewed = QueueStatistics(read_at=later, backlog=0, polled_at=later - 30 * SECOND).following(first)
    assert renewed.is_polled(later + 80 * SECOND, WINDOW)


def test_polls_that_linger_after_the_last_heartbeat_prove_nothing() -> None:
    polled = QueueStatistics(read_at=NOON, backlog=0, polled_at=NOON).following(None)
    assert not polled.is_polled(NOON, WINDOW, after=NOON - 30 * SECOND)
    assert polled.is_polled(NOON, WINDOW, after=NOON - 80 * SECOND)
