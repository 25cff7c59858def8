"""Runs on real servers: every step where the plan says, however it is called."""

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from orchestrator import EdgeClient
from orchestrator.errors import PayloadTooLargeError, PlacementError, UnknownOriginError
from orchestrator.timing import timing_of
from tests.dispatch.agents import (
    AuthorsQueue,
    Choir,
    Failing,
    Large,
    Narrowed,
    NarrowedHandoff,
    Tour,
)


def innermost(error: BaseException) -> ApplicationError:
    while error.__cause__ is not None and not isinstance(error, ApplicationError):
        error = error.__cause__
    assert isinstance(error, ApplicationError)
    return error


async def test_each_step_runs_where_the_plan_says(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    thought, pressed, paid = await run.result()
    assert run.plan.home == "frankfurt"
    assert (thought.region, thought.dispatch) == ("frankfurt", "inline")
    assert (pressed.region, pressed.dispatch) == ("dublin", "queue")
    assert (paid.region, paid.dispatch) == ("frankfurt", "queue")
    assert thought.key == f"{run.run_id}/1"
    assert pressed.key == f"{run.run_id}/2"
    assert paid.key == f"{run.run_id}/3"


async def test_history_tells_place_dispatch_and_times_of_each_step(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="Frankfurt")
    await run.result()
    steps = await run.steps()
    assert [(step.step, step.place, step.dispatch, step.attempts) for step in steps] == [
        ("think", "frankfurt", "inline", 1),
        ("press", "dublin", "queue", 1),
        ("pay", "frankfurt", "queue", 1),
    ]
    for step in steps:
        assert step.predicted_ms is not None
        assert step.actual_ms is not None
        assert 0 <= step.actual_ms < 60_000
        assert step.error is None


async def test_a_run_lives_in_the_cell_of_its_home(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="Washington, US")
    seen = await run.result()
    assert run.plan.cell == "america"
    assert {step.region for step in seen} == {"ashburn"}
    description = await edge.cell("america").get_workflow_handle(run.id).describe()
    assert description.task_queue == "ashburn.agents"


async def test_a_step_reaches_another_region_from_a_far_cell(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="Washington, US", residency="US,DE")
    assert run.plan.home == "ashburn"
    run = await edge.start(Tour.run, "hello", origin="Washington, US", residency="EU")
    assert {step.region for step in await run.result()} <= {"frankfurt", "dublin"}


async def test_pieces_stream_from_the_places_in_order(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    pieces = [piece async for piece in run.stream()]
    await run.result()
    texts = sorted((piece.sequence, piece.text, piece.place) for piece in pieces)
    assert texts == [(1, "hello ", "frankfurt"), (2, "hello!", "dublin"), (3, "3 CHF ", "frankfurt")]


async def test_sub_agents_have_homes_of_their_own(edge: EdgeClient) -> None:
    run = await edge.start(Choir.run, "la", origin="frankfurt")
    own, voice, printer, pressed = await run.result()
    assert run.plan.root.handoffs["Printer"].home == "dublin"
    assert (own.region, voice.region) == ("frankfurt", run.plan.root.handoffs["Voice"].home)
    assert (printer.region, printer.dispatch) == ("dublin", "inline")
    assert (pressed.region, pressed.dispatch) == ("dublin", "inline")
    agents = {(step.agent, step.step, step.place) for step in await run.steps()}
    assert ("Printer", "press", "dublin") in agents
    pieces = [piece async for piece in run.stream()]
    assert {piece.text for piece in pieces} == {"la ", "la!"}


async def test_a_block_narrows_the_residency(edge: EdgeClient) -> None:
    run = await edge.start(Narrowed.run, "IE", origin="frankfurt", residency="EU")
    before, inside = await run.result()
    assert (before.region, inside.region) == ("frankfurt", "dublin")


async def test_a_block_that_leaves_no_place_fails_the_run_with_its_rule(edge: EdgeClient) -> None:
    run = await edge.start(Narrowed.run, "JP", origin="frankfurt")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == "PlacementError"
    assert "none lies in JP" in str(error)


async def test_a_block_narrows_the_residency_of_a_sub_agent_and_its_steps(edge: EdgeClient) -> None:
    run = await edge.start(NarrowedHandoff.run, "IE", origin="frankfurt")
    assert {seen.region for seen in await run.result()} == {"dublin"}
    run = await edge.start(NarrowedHandoff.run, "DE", origin="frankfurt")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "PlacementError"
    assert "sub-agent Printer has its home in dublin, outside DE" in str(innermost(failed.value))


async def test_an_impossible_residency_is_an_error_before_the_start(edge: EdgeClient) -> None:
    with pytest.raises(PlacementError, match="residency") as refused:
        await edge.start(Tour.run, "hello", origin="frankfurt", residency="JP")
    assert refused.value.rule == "residency"
    with pytest.raises(
        PlacementError, match=r"step press has no place, because of the rule .needs"
    ) as refused:
        await edge.start(Tour.run, "hello", origin="frankfurt", residency="DE")
    assert refused.value.rule == "needs"


async def test_an_unknown_origin_is_an_error_before_the_start(edge: EdgeClient) -> None:
    with pytest.raises(UnknownOriginError, match="Erewhon"):
        await edge.start(Tour.run, "hello", origin="Erewhon")


@pytest.mark.parametrize(("final", "kind"), [(True, "BackendRefusedError"), (False, "BackendFaultError")])
async def test_a_failed_backend_is_a_typed_error_with_endpoint_and_region(
    edge: EdgeClient, final: bool, kind: str
) -> None:
    run = await edge.start(Failing.run, final, origin="frankfurt")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == kind
    assert error.details[0]["endpoint"] == "http://127.0.0.1:1/v1"
    assert error.details[0]["region"] == "frankfurt"
    (step,) = await run.steps()
    assert step.error is not None
    assert step.error.startswith(kind)


async def test_the_queue_that_an_author_names_stays(edge: EdgeClient) -> None:
    run = await edge.start(AuthorsQueue.run, "ashburn.code", origin="frankfurt")
    seen = await run.result()
    assert (run.plan.home, seen.region, seen.dispatch) == ("frankfurt", "ashburn", "queue")


async def test_an_input_over_two_mebibytes_is_refused_at_the_client(edge: EdgeClient) -> None:
    with pytest.raises(PayloadTooLargeError, match=r"input of Tour has 3.0 MiB, Temporal carries 2 MiB"):
        await edge.start(Tour.run, "x" * 3 * 1024 * 1024, origin="frankfurt")


@pytest.mark.parametrize("where", ["result", "input"])
async def test_a_payload_over_two_mebibytes_inside_a_run_fails_it_at_once(
    edge: EdgeClient, where: str
) -> None:
    run = await edge.start(Large.run, where, origin="frankfurt")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "PayloadTooLargeError"


async def test_a_worker_says_beside_each_result_how_long_it_took(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    await run.result()
    results = [
        event.activity_task_completed_event_attributes.result.payloads[0]
        async for event in run.handle.fetch_history_events()
        if event.HasField("activity_task_completed_event_attributes")
    ]
    timings = [timing_of(result) for result in results]
    assert [timing.region for timing in timings if timing] == ["dublin", "frankfurt"]
    assert all(timing.execution_ms > 0 and timing.started_at > 0 for timing in timings if timing)
