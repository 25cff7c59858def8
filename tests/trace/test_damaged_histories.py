"""Real histories in which something is damaged, of another version, or by a clock that is wrong."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionDescription

from orchestrator import EdgeClient
from orchestrator.dispatch.headers import PLAN_HEADER
from orchestrator.timing import TIMING
from orchestrator.trace import RunTrace
from orchestrator.trace.inline import INLINE_MARKER
from orchestrator.trace.reading import traced_run
from orchestrator.trace.timeline import Timeline
from tests.trace.agents import Mixed
from tests.trace.reading import assert_adds_up

HOUR_S = 3600


@dataclass
class Recorded:
    """The history of one real run: two inline steps and a queued one between them."""

    description: WorkflowExecutionDescription
    events: list[HistoryEvent]

    def copied(self) -> list[HistoryEvent]:
        return [HistoryEvent.FromString(event.SerializeToString()) for event in self.events]

    def traced(self, events: list[HistoryEvent]) -> RunTrace:
        return traced_run(Timeline.of(events), self.description)


@pytest.fixture(scope="module")
async def recorded(traced: EdgeClient) -> Recorded:
    run = await traced.start(Mixed.run, 30, origin="traced")
    await run.result()
    handle = traced.cell("traced").get_workflow_handle(run.id)
    return Recorded(await handle.describe(), [event async for event in handle.fetch_history_events()])


def results(events: list[HistoryEvent]) -> Iterator[Payload]:
    for event in events:
        if event.HasField("activity_task_completed_event_attributes"):
            yield from event.activity_task_completed_event_attributes.result.payloads
        elif event.HasField("marker_recorded_event_attributes"):
            yield from event.marker_recorded_event_attributes.details["result"].payloads


def markers(events: list[HistoryEvent]) -> Iterator[Payload]:
    for event in events:
        attributes = event.marker_recorded_event_attributes
        if attributes.marker_name == INLINE_MARKER:
            yield attributes.details["data"].payloads[0]


def plan(events: list[HistoryEvent]) -> Payload:
    return events[0].workflow_execution_started_event_attributes.header.fields[PLAN_HEADER]


def with_clock_off(events: list[HistoryEvent], seconds: float) -> None:
    """As if the worker's clock had been off, in everything that it told."""
    for payload in results(events):
        said = json.loads(payload.metadata[TIMING])
        payload.metadata[TIMING] = json.dumps({**said, "started_at": said["started_at"] + seconds}).encode()
    for payload in markers(events):
        data = json.loads(payload.data)
        data["original_schedule_time"]["seconds"] += int(seconds)
        payload.data = json.dumps(data).encode()


def test_the_history_is_whole(recorded: Recorded) -> None:
    run = recorded.traced(recorded.copied())
    assert_adds_up(run)
    assert (len(run.steps), run.notes) == (3, ())
    assert len(list(results(recorded.events))) == 3


@pytest.mark.parametrize("seconds", [-HOUR_S, -1, 1, HOUR_S])
def test_a_clock_that_is_off_is_told_once_and_changes_no_part(recorded: Recorded, seconds: float) -> None:
    events = recorded.copied()
    with_clock_off(events, seconds)
    run, whole = recorded.traced(events), recorded.traced(recorded.copied())
    assert_adds_up(run)
    assert [step.step for step in run.steps] == [step.step for step in whole.steps]
    assert [step.wall_ms for step in run.steps] == [step.wall_ms for step in whole.steps]
    assert run.orchestration_ms == pytest.approx(whole.orchestration_ms)
    (note,) = run.notes
    assert note.startswith(f"the clock of the worker in traced is off by {'-' if seconds < 0 else '+'}")
    assert "(3 steps); the server's times are used" in note
    for step in run.steps:
        assert step.parts is not None
        assert step.parts.clock_skew_ms == pytest.approx(seconds * 1000, abs=500)


def test_a_clock_that_is_set_back_during_a_run_gives_no_negative_bar(recorded: Recorded) -> None:
    events = recorded.copied()
    late, early = list(markers(events))
    for payload, seconds in ((late, HOUR_S), (early, -HOUR_S)):
        data = json.loads(payload.data)
        data["original_schedule_time"]["seconds"] += seconds
        payload.data = json.dumps(data).encode()
    assert_adds_up(recorded.traced(events))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b'{"region": "x", "started_at": 1.0, "execution_ms": -5}',
        b'{"region": "x", "started_at": 1.0, "execution_ms": Infinity}',
        b'{"region": "x", "started_at": NaN, "execution_ms": 1}',
        b'{"region": "x", "started_at": 1, "execution_ms": 1, "attempt_scheduled_at": "2026-01-01T00:00:00"}',
        b'{"region": "x", "started_at": 1.0, "execution_ms": 1, "calls": [{"kind": "model"}]}',
    ],
)
def test_a_word_of_a_worker_that_cannot_be_read_is_done_without(recorded: Recorded, said: bytes) -> None:
    events = recorded.copied()
    for payload in results(events):
        payload.metadata[TIMING] = said
    run = recorded.traced(events)
    assert_adds_up(run)
    (note,) = run.notes
    assert note.startswith("what the worker said beside 3 results cannot be read")
    assert {step.ran_in for step in run.steps} == {None}


@pytest.mark.parametrize("started_at", [-1e300, 0.0, 1e300])
def test_a_time_beyond_all_clocks_is_a_clock_that_is_off(recorded: Recorded, started_at: float) -> None:
    events = recorded.copied()
    for payload in results(events):
        said = json.loads(payload.metadata[TIMING])
        payload.metadata[TIMING] = json.dumps(
            {**said, "started_at": started_at, "attempt_scheduled_at": "9999-01-01T00:00:00Z"}
        ).encode()
    run = recorded.traced(events)
    assert_adds_up(run)
    assert any("is off by" in note for note in run.notes)


def test_what_a_newer_version_adds_is_ignored(recorded: Recorded) -> None:
    events = recorded.copied()
    for payload in results(events):
        said = json.loads(payload.metadata[TIMING])
        payload.metadata[TIMING] = json.dumps({**said, "version": 9, "novel": {"a": [1]}}).encode()
    header = plan(events)
    told = json.loads(zlib.decompress(header.data))
    header.data = zlib.compress(json.dumps({**told, "version": 9, "novel": [1]}).encode())
    run = recorded.traced(events)
    assert_adds_up(run)
    assert (run.home, run.notes) == ("traced", ())
    assert run.plan is not None
    assert run.plan.version == 9


@pytest.mark.parametrize("damage", ["cut", "garbage", "no JSON", "empty", "other values", "other encoding"])
def test_a_plan_that_cannot_be_read_leaves_the_waterfall(recorded: Recorded, damage: str) -> None:
    events = recorded.copied()
    header = plan(events)
    told = json.loads(zlib.decompress(header.data))
    header.data = {
        "cut": header.data[: len(header.data) // 2],
        "garbage": b"\x00\xff" * 50,
        "no JSON": zlib.compress(b"\xff not JSON"),
        "empty": b"",
        "other values": zlib.compress(
            json.dumps({**told, "origin": {"coordinates": [999, 999]}, "residency": "!"}).encode()
        ),
        "other encoding": json.dumps(told).encode(),
    }[damage]
    run = recorded.traced(events)
    assert_adds_up(run)
    assert len(run.steps) == 3
    assert (run.home, run.plan, run.predicted_ms) == (None, None, None)
    assert sum("cannot be read" in note for note in run.notes) == 1
    assert any("no receipts" in note for note in run.notes)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"activity_type": "think"}', b"\xff"])
def test_a_marker_that_cannot_be_read_is_left_out_and_told(recorded: Recorded, data: bytes) -> None:
    events = recorded.copied()
    next(markers(events)).data = data
    run = recorded.traced(events)
    assert len(run.steps) == 2
    assert any("1 inline step cannot be read" in note for note in run.notes)


def test_markers_of_another_sdk_are_told(recorded: Recorded) -> None:
    events = recorded.copied()
    for event in events:
        if event.marker_recorded_event_attributes.marker_name == INLINE_MARKER:
            event.marker_recorded_event_attributes.marker_name = "LocalActivity"
    run = recorded.traced(events)
    assert len(run.steps) == 1
    assert any(note.startswith("2 local activities of another SDK") for note in run.notes)


def test_a_step_that_ran_elsewhere_than_it_was_placed_is_pointed_out(recorded: Recorded) -> None:
    events = recorded.copied()
    for payload in results(events):
        payload.metadata[TIMING] = json.dumps(
            {**json.loads(payload.metadata[TIMING]), "region": "elsewhere"}
        ).encode()
    run = recorded.traced(events)
    assert {step.ran_in for step in run.all_steps()} == {"elsewhere"}
    assert any(note.startswith("placed in traced, and ran in elsewhere: ") for note in run.notes), run.notes
    assert_adds_up(run)
