from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import QueueStatus, StepTime, View, WorkerStatus
from orchestrator.fleet.readings import (
    CellReading,
    ControlEndpointReading,
    Heartbeat,
    QueueStatistics,
    Readings,
    Window,
)
from orchestrator.placement import QueueReading, RunTime, Snapshot
from tests.fleet.places import region, topology

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WINDOW = Window(interval=5 * SECOND)
STALE = WINDOW.fresh + SECOND


def view(
    readings: Readings,
    now: datetime = NOON,
    viewpoint: str | None = "east",
    own_times: Mapping[tuple[str, str], RunTime] | None = None,
) -> View:
    return View(
        topology=topology(),
        readings=readings,
        now=now,
        window=WINDOW,
        viewpoint=viewpoint,
        kinds=frozenset({"model", "tool"}),
        own_times=own_times or {},
    )


def said(name: str = "west", **values: object) -> ControlEndpointReading:
    return ControlEndpointReading().answered(NOON, WorkerStatus(region=name, **values), 90.0)


def silent(reading: ControlEndpointReading, since: datetime, times: int = 3) -> ControlEndpointReading:
    for failure in range(times):
        reading = reading.failed(since + failure * SECOND, "refused")
    return reading


def beat(queue: str, seen_at: datetime = NOON, worker: str = "w1", **values: object) -> Heartbeat:
    given: dict[str, object] = {"shutting_down": False, "every": SECOND, "slots": 4, "busy": 1, **values}
    return Heartbeat(worker=worker, queue=queue, beat_at=seen_at, seen_at=seen_at, **given)  # type: ignore[arg-type] -- as above


def listing(*beats: Heartbeat, at: datetime = NOON) -> CellReading:
    return CellReading(heartbeats={beat.worker: beat for beat in beats}, listed_at=at)


def statistics(backlog: int = 0, at: datetime = NOON, seen_at: datetime | None = None) -> QueueStatistics:
    return QueueStatistics(read_at=at, backlog=backlog, polled_at=seen_at, seen_at=seen_at)


# -- states -----------------------------------------------------------------------------------


def test_nothing_read_is_nothing_known() -> None:
    snapshot = view(Readings()).snapshot()
    assert {name: reading.state for name, reading in snapshot.regions.items()} == {
        "east": "unknown",
        "west": "unknown",
        "south": "unknown",
    }
    assert snapshot == Snapshot(taken_at=NOON, regions=snapshot.regions)
    assert view(Readings()).cell_states() == {"east-cell": "unknown", "west-cell": "unknown"}


@pytest.mark.parametrize("state", ["up", "draining"])
def test_a_region_is_what_its_worker_says(state: str) -> None:
    readings = Readings(controls={"west": said(state=state)})
    assert view(readings).snapshot().region("west").state == state
    assert view(readings, NOON + STALE).snapshot().region("west").state == "unknown"


def test_a_draining_worker_that_goes_away_is_never_up_in_between() -> None:
    control = said(state="draining")
    states: list[str] = []
    for failure in range(1, 5):
        now = NOON + failure * SECOND
        control = control.failed(now, "refused")
        states.append(view(Readings(controls={"west": control}), now).snapshot().region("west").state)
    assert states == ["draining", "draining", "down", "down"]


def test_a_worker_that_beats_on_lives_although_its_control_endpoint_is_silent() -> None:
    control = silent(said(), since=NOON + SECOND)
    now = NOON + 12 * SECOND

    def state(beat_seen_at: datetime) -> str:
        cells = {"east-cell": listing(beat("west.model", seen_at=beat_seen_at), at=now)}
        return view(Readings(cells=cells, controls={"west": control}), now).snapshot().region("west").state

    assert state(NOON) == "down"
    assert state(NOON + 10 * SECOND) == "down"  # the last one of a worker that is gone may be seen late
    assert state(NOON + 12 * SECOND) == "up"


def test_heartbeats_of_a_cell_that_the_region_does_not_serve_prove_nothing() -> None:
    places = topology(region("east"), region("west"), region("south", serves=("east-cell",)))
    readings = Readings(cells={"west-cell": listing(beat("south.model"))})
    seen = View(topology=places, readings=readings, now=NOON, window=WINDOW)
    assert seen.region_states()["south"] == "unknown"


@pytest.mark.parametrize(
    ("shutting_down", "state"), [([False], "up"), ([True, False], "up"), ([True, True], "draining")]
)
def test_without_a_control_endpoint_heartbeats_decide(shutting_down: list[bool], state: str) -> None:
    beats = [
        beat("south.agents", worker=str(number), shutting_down=ending)
        for number, ending in enumerate(shutting_down)
    ]
    assert view(Readings(cells={"east-cell": listing(*beats)})).region_states()["south"] == state


def test_without_a_control_endpoint_a_region_whose_heartbeats_ended_is_down() -> None:
    now = NOON + timedelta(seconds=30)
    cells = {"east-cell": listing(beat("south.model", seen_at=NOON), at=now)}
    lingering = {("east-cell", "south.model"): statistics(at=now, seen_at=now)}
    assert view(Readings(cells=cells, queues=lingering), now).region_states()["south"] == "down"


def test_a_cell_that_cannot_be_read_takes_no_region_down() -> None:
    now = NOON + timedelta(minutes=10)
    cells = {"east-cell": listing(beat("south.model", seen_at=NOON), at=NOON)}
    assert view(Readings(cells=cells), now).region_states()["south"] == "unknown"


def test_without_heartbeats_pollers_decide() -> None:
    polled = {("west-cell", "south.tool"): statistics(seen_at=NOON)}
    assert view(Readings(queues=polled)).region_states()["south"] == "up"
    idle = {("east-cell", "south.model"): statistics()}
    assert view(Readings(queues=idle)).region_states()["south"] == "down"
    other_cell_only = {("west-cell", "south.model"): statistics()}
    assert view(Readings(queues=other_cell_only)).region_states()["south"] == "unknown"


def test_the_state_of_cells_is_told_for_what_decides_about_homes() -> None:
    dead = CellReading()
    for failure in range(3):
        dead = CellReading(liveness=dead.liveness.failed(NOON + failure * SECOND, "unavailable"))
    alive = CellReading(liveness=CellReading().liveness.answered(NOON))
    seen = view(Readings(cells={"east-cell": dead, "west-cell": alive}), NOON + 2 * SECOND)
    assert seen.cell_states() == {"east-cell": "down", "west-cell": "up"}
    assert seen.snapshot().cells_down == {"east-cell"}


# -- queues -----------------------------------------------------------------------------------


def test_the_backlog_of_all_cells_waits_for_the_slots_that_the_worker_tells() -> None:
    readings = Readings(
        controls={"west": said(queues={"model": QueueStatus(slots=8, busy=3)})},
        queues={
            ("east-cell", "west.model"): statistics(4),
            ("west-cell", "west.model"): statistics(5),
            ("west-cell", "east.model"): statistics(99),
        },
    )
    assert view(readings).snapshot().region("west").queues == {
        "model": QueueReading(backlog=9, slots=8, busy=3)
    }


def test_without_a_control_endpoint_slots_are_those_of_live_heartbeats() -> None:
    cells = {
        "east-cell": listing(
            beat("south.model", worker="a", slots=4, busy=4),
            beat("south.model", worker="b", slots=4, busy=1),
            beat("south.model", worker="ending", slots=4, shutting_down=True),
            beat("south.model", worker="gone", slots=4, seen_at=NOON - timedelta(hours=1)),
            beat("south.agents", worker="agents", slots=100),
            beat("south.tool", worker="custom", slots=None, busy=0),
        )
    }
    queues = {("east-cell", "south.tool"): statistics(2)}
    assert view(Readings(cells=cells, queues=queues)).snapshot().region("south").queues == {
        "model": QueueReading(backlog=0, slots=8, busy=5),
        "tool": QueueReading(backlog=2, slots=None, busy=0),
    }


@pytest.mark.parametrize("kind", ["agents", "My Kind", ""])
def test_a_kind_that_only_a_worker_knows_is_taken_as_it_is(kind: str) -> None:
    readings = Readings(controls={"west": said(queues={kind: QueueStatus(slots=8, busy=3)})})
    assert view(readings).snapshot().region("west").queues == {kind: QueueReading(slots=8, busy=3)}


def test_queues_that_nobody_read_lately_are_unknown() -> None:
    readings = Readings(
        controls={"west": said(queues={"model": QueueStatus(slots=8, busy=3)})},
        queues={("west-cell", "west.model"): statistics(5)},
    )
    assert view(readings, NOON + STALE).snapshot().region("west").queues == {}


# -- times ------------------------------------------------------------------------------------


def test_round_trips_are_those_of_this_process_and_those_that_workers_tell() -> None:
    cell = CellReading().liveness.answered(NOON)
    trips = CellReading().round_trips
    readings = Readings(
        cells={
            "east-cell": CellReading(liveness=cell, round_trips=trips.measured(NOON, [0.9, 0.7])),
            "west-cell": CellReading(liveness=cell, round_trips=trips.measured(NOON, [95.0, 99.0])),
        },
        controls={"west": said(rtt_ms={"west": 0.8, "east": 88.0, "mars": 1.0})},
    )
    assert view(readings).snapshot().rtt_ms == {
        ("east", "east"): 0.7,
        ("east", "west"): 90.0,  # the control endpoint was nearer than the cell
        ("west", "west"): 0.8,
        ("west", "east"): 88.0,
    }
    assert view(readings, viewpoint=None).snapshot().rtt_ms == {("west", "west"): 0.8, ("west", "east"): 88.0}
    assert view(readings, NOON + STALE).snapshot().rtt_ms == {}


def test_run_times_come_from_whoever_saw_more() -> None:
    readings = Readings(
        controls={
            "west": said(
                run_times=(
                    StepTime(step="answer", p50_ms=100, p95_ms=200, samples=50),
                    StepTime(step="retrieve", p50_ms=10, p95_ms=20, samples=2),
                )
            )
        }
    )
    own = {("answer", "west"): RunTime(1, 2, 10), ("retrieve", "west"): RunTime(3, 4, 10)}
    assert view(readings, own_times=own).snapshot().run_times == {
        ("answer", "west"): RunTime(100, 200, 50),
        ("retrieve", "west"): RunTime(3, 4, 10),
    }


@given(st.lists(st.integers(min_value=0, max_value=4000), min_size=2).map(sorted))
def test_run_times_lose_weight_with_age_until_the_prior_is_back(ages_s: list[int]) -> None:
    readings = Readings(
        controls={"west": said(run_times=(StepTime(step="answer", p50_ms=5, p95_ms=9, samples=100),))}
    )
    weights: list[int] = []
    for age_s in ages_s:
        seen = view(readings, NOON + age_s * SECOND).snapshot().run_times.get(("answer", "west"))
        weights.append(seen.samples if seen else 0)
        assert (weights[-1] == 100) if age_s <= 15 else (weights[-1] < 100 or age_s < 60)
        assert (weights[-1] == 0) if age_s > 1815 else True
    assert weights == sorted(weights, reverse=True)


@given(
    ages=st.lists(st.integers(min_value=0, max_value=120), min_size=5, max_size=5),
    answers=st.lists(st.booleans(), max_size=8),
)
def test_no_reading_counts_beyond_three_intervals(ages: list[int], answers: list[bool]) -> None:
    """Whatever was read, a snapshot taken later than that knows no state, queue or round trip."""
    at = [NOON - age * SECOND for age in ages]
    control = said(queues={"model": QueueStatus(slots=2)}, rtt_ms={"east": 3.0})
    for answered in answers:
        control = (
            control.answered(at[0], WorkerStatus(region="west"), 5.0)
            if answered
            else control.failed(at[1], "")
        )
    readings = Readings(
        cells={
            "east-cell": CellReading(
                CellReading().liveness.answered(at[2]),
                CellReading().round_trips.measured(at[2], [4.0]),
                {"w1": beat("south.model", seen_at=at[3])},
                at[3],
            )
        },
        controls={"west": control},
        queues={("east-cell", "south.model"): statistics(7, at=at[4], seen_at=at[4])},
    )
    later = view(readings, NOON + STALE).snapshot()
    assert {reading.state for reading in later.regions.values()} == {"unknown"}
    assert [reading.queues for reading in later.regions.values()] == [{}, {}, {}]
    assert later.rtt_ms == {}
