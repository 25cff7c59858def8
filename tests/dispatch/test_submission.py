"""Start and answer in one request, and answers inside the home's own process."""

import asyncio

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import TerminatedError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from orchestrator import EdgeClient, EdgeRun
from orchestrator.errors import CellUnavailableError, PayloadTooLargeError, PlacementError
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Topology
from tests.dispatch.agents import Again, Failing, Patient, Returning, Tour, application
from tests.dispatch.test_placed_runs import innermost


async def begun(run: EdgeRun[str]) -> None:
    """Returns when a submitted run is there; until then the cell does not know it."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await run.handle.execute_update(Patient.begun)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise


async def test_one_request_starts_a_run_and_brings_its_typed_answer(edge: EdgeClient) -> None:
    run = edge.submit(Tour.run, "hello", origin="frankfurt")
    thought, pressed, _ = await run.result()
    assert (thought.region, pressed.region) == ("frankfurt", "dublin")
    events = [event.event_type async for event in run.handle.fetch_history_events()]
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED in events
    assert events[-1] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED
    assert [step.step for step in await run.steps()] == ["think", "press", "pay"]
    assert await run.recorded() == await run.result()


async def test_an_answer_is_durable_when_it_arrives(edge: EdgeClient) -> None:
    run = edge.submit(Returning.run, 10, origin="frankfurt")
    assert len(await run.result()) == 10
    assert (await run.handle.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_execute_is_submit_and_its_answer(edge: EdgeClient) -> None:
    assert await edge.execute(Returning.run, 3, origin="frankfurt") == "xxx"


async def test_pieces_of_a_submitted_run_stream_while_it_starts(edge: EdgeClient) -> None:
    run = edge.submit(Tour.run, "hello", origin="frankfurt")
    assert {piece.text async for piece in run.stream()} == {"hello ", "hello!", "3 CHF "}


async def test_a_large_answer_is_read_from_the_result(edge: EdgeClient) -> None:
    size = 1024 * 1024
    assert len(await edge.execute(Returning.run, size, origin="frankfurt")) == size


async def test_an_answer_over_two_mebibytes_fails_the_run(edge: EdgeClient) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await edge.execute(Returning.run, 3 * 1024 * 1024, origin="frankfurt")
    assert innermost(failed.value).type == "PayloadTooLargeError"


async def test_a_failed_run_fails_as_it_does_when_it_was_started(edge: EdgeClient) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await edge.execute(Failing.run, True, origin="frankfurt")
    assert innermost(failed.value).type == "BackendRefusedError"


async def test_a_run_that_goes_on_as_new_is_followed(edge: EdgeClient) -> None:
    assert await edge.execute(Again.run, 2, origin="frankfurt") == "done"


@pytest.mark.parametrize("how", ["cancel", "terminate"])
async def test_a_run_that_is_ended_from_outside_fails(edge: EdgeClient, how: str) -> None:
    run = edge.submit(Patient.run, origin="frankfurt")
    await begun(run)
    await (run.handle.cancel() if how == "cancel" else run.handle.terminate())
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert isinstance(failed.value.cause, TerminatedError) == (how == "terminate")


async def test_an_id_that_is_taken_is_an_error(edge: EdgeClient) -> None:
    run = await edge.start(Patient.run, origin="frankfurt")
    with pytest.raises(WorkflowAlreadyStartedError):
        await edge.execute(Patient.run, origin="frankfurt", id=run.id)
    await run.handle.terminate()


async def test_what_keeps_a_run_from_starting_is_raised_at_once_or_with_the_answer(edge: EdgeClient) -> None:
    with pytest.raises(PlacementError):
        edge.submit(Tour.run, "hello", origin="frankfurt", residency="JP")
    run = edge.submit(Tour.run, "x" * 3 * 1024 * 1024, origin="frankfurt")
    with pytest.raises(PayloadTooLargeError):
        await run.result()


async def test_a_cell_that_is_away_is_said(topology: Topology) -> None:
    away = topology.model_copy(
        update={"cells": tuple(cell.model_copy(update={"address": "127.0.0.1:1"}) for cell in topology.cells)}
    )
    async with await EdgeClient.connect(away, application=application, watch=False) as edge:
        with pytest.raises(CellUnavailableError, match="cell europe does not answer"):
            await edge.execute(Returning.run, 3, origin="frankfurt")


@pytest.mark.parametrize("early", [False, True])
async def test_a_client_beside_the_home_starts_runs_in_the_process(
    topology: Topology, workers: dict[str, RegionWorker], early: bool
) -> None:
    async with await EdgeClient.connect(
        topology, application=application, watch=False, beside=workers["frankfurt"]
    ) as edge:
        run = edge.submit(Returning.run, 3, origin="frankfurt", early=early)
        assert await run.result() == "xxx"
        assert await run.recorded() == "xxx"
        started = await anext(run.handle.fetch_history_events())
        assert started.workflow_execution_started_event_attributes.eager_execution_accepted
        with pytest.raises(WorkflowFailureError) as failed:
            await edge.execute(Failing.run, True, origin="frankfurt", early=early)
        assert innermost(failed.value).type == "BackendRefusedError"
        # another region's run goes the usual way
        seen = await edge.execute(Tour.run, "hello", origin="Washington, US", early=early)
        assert seen[0].region == "ashburn"


async def test_an_early_answer_that_waits_for_something_is_still_given(
    topology: Topology, workers: dict[str, RegionWorker]
) -> None:
    async with await EdgeClient.connect(
        topology, application=application, watch=False, beside=workers["frankfurt"]
    ) as edge:
        run = edge.submit(Patient.run, origin="frankfurt", early=True)
        await begun(run)
        await run.handle.signal(Patient.finish)
        assert await run.result() == "finished"
