"""The lines of ``edgeward top``: what the view says, with the reason where something is down."""

from datetime import UTC, datetime, timedelta

from orchestrator.fleet import QueueStatus, StepTime, StepTimes, View, WorkerStatus
from orchestrator.fleet.readings import (
    CellReading,
    ControlEndpointReading,
    Liveness,
    QueueStatistics,
    Readings,
    RoundTrips,
    Window,
)
from orchestrator.fleet.report import report
from orchestrator.fleet.status import Quantiles
from tests.fleet.places import topology

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

STATUS = WorkerStatus(
    region="west",
    queues={"model": QueueStatus(slots=4, busy=1), "tool": QueueStatus(slots=6, busy=5)},
    run_times=(StepTime(step="answer", p50_ms=80, p95_ms=200, samples=5),),
    all_steps=Quantiles(p50_ms=50, p95_ms=180, samples=9),
)


def view(readings: Readings) -> View:
    return View(
        topology=topology(),
        readings=readings,
        now=NOON,
        window=Window(interval=5 * SECOND),
        kinds=frozenset({"model", "tool"}),
    )


def failed(reason: str) -> Liveness:
    liveness = Liveness()
    for second in range(3):
        liveness = liveness.failed(NOON - second * SECOND, reason)
    return liveness


def test_a_region_that_is_up_tells_its_slots_backlog_and_times() -> None:
    readings = Readings(
        cells={"west-cell": CellReading(Liveness().answered(NOON), RoundTrips().measured(NOON, [7.0, 5.0]))},
        controls={"west": ControlEndpointReading().answered(NOON, STATUS, 9.0)},
        queues={
            ("west-cell", f"west.{kind}"): QueueStatistics(read_at=NOON, backlog=backlog, polled_at=None)
            for kind, backlog in (("model", 3), ("tool", 4))
        },
    )
    found = report(view(readings))
    west = next(line for line in found.regions if line.region == "west")
    assert (west.state, west.reason, west.cell) == ("up", None, "west-cell")
    assert (west.busy, west.slots, west.backlog) == (6, 10, 7)
    # this process stands in no region: placement leaves its own round trips out, and it still has them
    assert (west.rtt_ms, west.p50_ms, west.p95_ms) == (9.0, 50, 180)
    assert west.steps == STATUS.run_times
    cell = next(line for line in found.cells if line.cell == "west-cell")
    assert (cell.state, cell.reason, cell.rtt_ms) == ("up", None, 5.0)


def test_what_is_down_says_why() -> None:
    control = ControlEndpointReading(liveness=failed("connection refused"), status=STATUS)
    readings = Readings(
        cells={"west-cell": CellReading(failed("no answer within 2 s"))}, controls={"west": control}
    )
    found = report(view(readings))
    west = next(line for line in found.regions if line.region == "west")
    assert (west.state, west.reason) == ("down", "connection refused")
    assert (west.slots, west.busy, west.backlog, west.rtt_ms, west.p95_ms) == (None,) * 5
    cell = next(line for line in found.cells if line.cell == "west-cell")
    assert (cell.state, cell.reason, cell.rtt_ms) == ("down", "no answer within 2 s", None)


def test_a_region_that_others_avoid_says_who_and_why() -> None:
    avoiding = STATUS.model_copy(update={"region": "east", "away": {"west": "its steps take unusually long"}})
    readings = Readings(
        controls={
            "east": ControlEndpointReading().answered(NOON, avoiding, 9.0),
            "south": ControlEndpointReading().answered(NOON - 60 * SECOND, avoiding, 9.0),
            "west": ControlEndpointReading().answered(NOON, STATUS, 9.0),
        }
    )
    lines = {line.region: line for line in report(view(readings)).regions}
    assert lines["west"].state == "up"
    # what was said a minute ago says nothing now
    assert lines["west"].avoided_by == {"east": "its steps take unusually long"}
    assert lines["east"].avoided_by == {}


def test_nothing_read_is_nothing_known() -> None:
    found = report(view(Readings()))
    assert {line.state for line in (*found.regions, *found.cells)} == {"unknown"}


def test_the_times_of_all_steps_are_those_of_every_call_there() -> None:
    times = StepTimes()
    for step, region, took_ms in (("a", "west", 1), ("a", "west", 2), ("b", "west", 9), ("b", "east", 500)):
        times.record(step, region, timedelta(milliseconds=took_ms))
    together = times.all_steps("west")
    assert together is not None
    assert (together.p50_ms, together.p95_ms, together.samples) == (2, 9, 3)
    assert times.all_steps("south") is None
