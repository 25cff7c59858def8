"""Traces of real runs, from history alone: the parts of each step add up to its wall time."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError

from orchestrator import EdgeClient
from orchestrator.errors import RunNotFoundError
from orchestrator.timing import StepTiming
from orchestrator.trace import read_run
from orchestrator.trace.parts import QueuedTimes, queued_parts
from tests.dispatch.plain import Plain
from tests.trace.agents import Crowd, Falling, Mixed, Pair, Stumbling, Waiting
from tests.trace.reading import assert_adds_up, trace_of

PAUSE_MS = 40


@pytest.mark.parametrize("agent", [Mixed, Crowd, Pair, Stumbling])
async def test_the_parts_of_each_step_add_up(traced: EdgeClient, agent: type) -> None:
    run = await traced.start(agent.run, PAUSE_MS, origin="traced")  # pyright: ignore[reportAttributeAccessIssue] -- every one of them has it
    await run.result()
    found = await trace_of(traced, run.id)
    assert_adds_up(found)
    assert (found.status, found.home, found.error) == ("completed", "traced", None)
    assert {step.ran_in for step in found.all_steps()} == {"traced"}
    assert found.orchestration_ms is not None
    assert 0 < found.orchestration_ms < found.wall_ms


async def test_turns_that_inline_steps_hold_on_to_are_one_turn(traced: EdgeClient) -> None:
    """The home asks for its turn again every few seconds while inline steps run: nothing happened."""
    run = await traced.start(Mixed.run, 3200, origin="traced")
    await run.result()
    history = await run.handle.fetch_history()
    turns = sum(event.HasField("workflow_task_started_event_attributes") for event in history.events)
    found = await trace_of(traced, run.id)
    first = found.steps[0]
    assert turns > 3
    assert first.parts is not None
    assert first.parts.execution_ms >= 3200
    assert (first.sequence, found.pauses, found.notes) == (1, (), ())
    assert [step.on_critical_path for step in found.steps] == [True, True, True]


async def test_a_failed_run_is_told_to_its_failed_step(traced: EdgeClient) -> None:
    run = await traced.start(Falling.run, PAUSE_MS, origin="traced")
    with pytest.raises(WorkflowFailureError):
        await run.result()
    found = await trace_of(traced, run.id)
    assert_adds_up(found)
    assert found.status == "failed"
    assert found.error is not None
    assert [step.error is not None for step in found.steps] == [False, True]


async def test_a_step_that_waits_for_a_slot_says_so(traced: EdgeClient) -> None:
    run = await traced.start(Crowd.run, 100, origin="traced")
    await run.result()
    waits = sorted(step.parts.queue_wait_ms for step in (await trace_of(traced, run.id)).steps if step.parts)
    assert waits[0] < 100 < waits[1] < 200 < waits[2]


async def test_earlier_attempts_are_no_queue_wait(traced: EdgeClient) -> None:
    run = await traced.start(Stumbling.run, PAUSE_MS, origin="traced")
    await run.result()
    (step,) = (await trace_of(traced, run.id)).steps
    assert step.attempts == 2
    assert step.parts is not None
    assert step.parts.retries_ms >= 100  # the pause between the attempts


async def test_the_critical_path_leads_through_the_slower_sub_agent(traced: EdgeClient) -> None:
    run = await traced.start(Pair.run, 100, origin="traced")
    await run.result()
    found = await trace_of(traced, run.id)
    assert len(found.sub_agents) == 2
    slower = max(found.sub_agents, key=lambda below: below.wall_ms)
    assert [below.on_critical_path for below in found.sub_agents] == [
        below is slower for below in found.sub_agents
    ]
    assert [step.on_critical_path for step in found.steps] == [True]
    assert "press" in {step.step for step in found.critical_steps()}


async def test_a_run_that_goes_on_says_what_it_waits_for(traced: EdgeClient) -> None:
    run = await traced.start(Mixed.run, 1500, origin="traced")
    async with asyncio.timeout(20):
        while not (await trace_of(traced, run.id)).waits_for:
            await asyncio.sleep(0.05)
    found = await trace_of(traced, run.id)
    assert (found.status, found.ended_at, found.orchestration_ms) == ("running", None, None)
    await run.result()
    waiting = await traced.start(Waiting.run, 1, origin="traced")
    async with asyncio.timeout(20):
        while not (found := await trace_of(traced, waiting.id)).steps:
            await asyncio.sleep(0.05)
    assert found.waits_for == ("a signal or an update",)
    await waiting.handle.signal(Waiting.end)
    assert await waiting.result() == 1
    found = await trace_of(traced, waiting.id)
    (pause,) = found.pauses
    assert (pause.kind, pause.name, pause.on_critical_path) == ("message", "signal end", True)
    assert pause.wall_ms is not None
    assert found.orchestration_ms is not None
    assert found.orchestration_ms < found.wall_ms - pause.wall_ms


async def test_an_ordinary_run_has_a_waterfall_without_receipts(traced: EdgeClient) -> None:
    plain: Client = traced.cell("traced")
    with pytest.raises(RunNotFoundError, match="nobody"):
        await read_run(plain, "nobody")
    handle = await plain.start_workflow(
        Plain.run, "x", id="nobody-runs-it", task_queue="nowhere", run_timeout=timedelta(seconds=1)
    )
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    found = await trace_of(traced, "nobody-runs-it")
    assert (found.status, found.plan, found.steps) == ("timed out", None, ())
    assert any("without a plan" in remark for remark in found.notes)


def test_a_clock_that_disagrees_is_said_and_gives_no_negative_part() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)

    def at(ms: float) -> datetime:
        return began + timedelta(milliseconds=ms)

    times = QueuedTimes(at(0), at(5), at(10), at(60), at(70), 1)
    for skew_ms in (-3_600_000.0, 3_600_000.0):
        timing = StepTiming(region="x", started_at=(at(12 + skew_ms)).timestamp(), execution_ms=40)
        parts = queued_parts(times, timing)
        assert min(parts.by_name().values()) >= 0
        assert parts.sum_ms == pytest.approx(70)
        assert parts.delivery_ms == pytest.approx(5)
        assert parts.clock_skew_ms == pytest.approx(skew_ms, abs=10)
    agreeing = queued_parts(times, StepTiming(region="x", started_at=at(12).timestamp(), execution_ms=40))
    assert (agreeing.clock_skew_ms, agreeing.delivery_ms) == (None, pytest.approx(2, abs=0.01))
