"""Histories of ordinary Temporal runs, and what else may be asked for: the trace still tells what it can."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError

from orchestrator.errors import RunNotFoundError
from orchestrator.trace import RunTrace, find_run, read_run
from tests.trace.plain_workflows import PAUSE, QUEUE, Chain, Clash, Nothing, Parent, Patient
from tests.trace.reading import assert_adds_up

PAUSE_MS = PAUSE / timedelta(milliseconds=1)


def named(what: str) -> str:
    return f"{what}-{uuid.uuid4()}"


async def until(found: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not await found():
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
async def bereft(plain: Client) -> str:
    """A run whose child's history is about to be deleted: the server takes half a minute for that."""
    handle = await plain.start_workflow(Parent.run, 1, id=named("bereft"), task_queue=QUEUE)
    await handle.result()
    await plain.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=plain.namespace,
            workflow_execution=WorkflowExecution(workflow_id=f"{handle.id}-child"),
        )
    )
    return handle.id


def all_notes(run: RunTrace) -> str:
    return "\n".join(note for agent in run.all_agents() for note in agent.notes)


async def test_an_ordinary_run_has_its_steps_timers_and_children(plain: Client) -> None:
    handle = await plain.start_workflow(Parent.run, 1, id=named("parent"), task_queue=QUEUE)
    assert await handle.result() == 4
    run = await read_run(plain, handle.id)
    assert_adds_up(run)
    assert [(step.step, step.dispatch, step.place) for step in run.steps] == [
        ("add", "queue", None),
        ("add", "inline", None),
    ]
    (pause,) = run.pauses
    assert (pause.kind, pause.name) == ("timer", "timer of 0.3 s")
    (child,) = run.sub_agents
    assert (child.agent, child.status, len(child.steps)) == ("Child", "completed", 1)
    assert pause.on_critical_path
    assert child.on_critical_path
    assert run.orchestration_ms is not None
    assert run.orchestration_ms <= run.wall_ms - PAUSE_MS
    assert run.slowest is not None
    assert (run.slowest.part, run.slowest.name) == ("pause", "timer of 0.3 s")
    assert "without a plan" in all_notes(run)


async def test_a_child_that_could_not_start_is_not_mistaken_for_another(plain: Client) -> None:
    taken = await plain.start_workflow(Patient.run, False, id=named("taken"), task_queue=QUEUE)
    clash = await plain.start_workflow(Clash.run, taken.id, id=named("clash"), task_queue=QUEUE)
    assert await clash.result() == "WorkflowAlreadyStartedError"
    (child,) = (await read_run(plain, clash.id)).sub_agents
    assert (child.status, child.history_is_gone, child.steps) == ("not started", True, ())
    assert child.error == "workflow already exists"
    await taken.terminate(reason="enough")


async def test_a_run_is_found_by_temporals_run_id(plain: Client) -> None:
    handle = await plain.start_workflow(Nothing.run, id=named("found"), task_queue=QUEUE)
    await handle.result()
    run_id = handle.first_execution_run_id
    assert run_id is not None

    async def listed() -> bool:
        try:
            return (await find_run(plain, run_id)).workflow_id == handle.id
        except RunNotFoundError:
            return False

    await until(listed)
    for unknown in (str(uuid.uuid4()), "nobody' OR WorkflowId != 'x", ""):
        with pytest.raises(RunNotFoundError):
            await find_run(plain, unknown)


async def test_a_chain_says_how_many_runs_it_has(plain: Client) -> None:
    handle = await plain.start_workflow(Chain.run, 2, id=named("chain"), task_queue=QUEUE)
    await handle.result()
    last = await read_run(plain, handle.id)
    assert len(last.earlier_runs) == 2
    assert last.earlier_runs[0] == handle.first_execution_run_id
    assert "this is run 3 of its chain (continue-as-new)" in all_notes(last)
    middle = await read_run(plain, handle.id, last.earlier_runs[1])
    assert (middle.status, middle.continued_as) == ("continued as new", last.run_id)
    assert f"edgeward trace {last.run_id}" in all_notes(middle)
    assert len(middle.steps) == 1


async def test_a_run_without_steps_is_all_start(plain: Client) -> None:
    handle = await plain.start_workflow(Nothing.run, id=named("nothing"), task_queue=QUEUE)
    await handle.result()
    run = await read_run(plain, handle.id)
    assert (run.status, run.steps, run.pauses) == ("completed", (), ())
    assert run.orchestration_ms == pytest.approx(run.wall_ms)
    assert run.slowest is not None
    assert run.slowest.part == "start"


@pytest.mark.parametrize(("end", "status"), [("terminate", "terminated"), ("cancel", "canceled")])
async def test_a_run_that_was_ended_says_what_was_open(plain: Client, end: str, status: str) -> None:
    handle = await plain.start_workflow(Patient.run, True, id=named(end), task_queue=QUEUE)

    async def waits_for_both() -> bool:
        waits = (await read_run(plain, handle.id)).waits_for
        return any("timer of 300 s" in text for text in waits) and any(
            "waits for a worker" in text for text in waits
        )

    await until(waits_for_both)
    await (handle.terminate(reason="by hand") if end == "terminate" else handle.cancel())
    with pytest.raises(WorkflowFailureError):
        await handle.result()
    run = await read_run(plain, handle.id)
    assert (run.status, run.waits_for) == (status, ())
    assert run.error == ("by hand" if end == "terminate" else None)
    assert run.orchestration_ms is None or run.orchestration_ms >= 0
    assert run.model_dump_json()
    if end == "terminate":
        assert "open when the run ended: add" in all_notes(run)


async def test_a_reset_run_says_so_and_the_time_between_is_a_pause(plain: Client) -> None:
    handle = await plain.start_workflow(Parent.run, 1, id=named("reset"), task_queue=QUEUE)
    await handle.result()
    before = await read_run(plain, handle.id)
    completed = [
        event.event_id
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    ]
    reset = await plain.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=plain.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=before.run_id),
            workflow_task_finish_event_id=completed[1],
            reason="try again",
            request_id=str(uuid.uuid4()),
        )
    )
    await plain.get_workflow_handle(handle.id, run_id=reset.run_id).result()
    run = await read_run(plain, handle.id)
    assert (run.run_id, run.status) == (reset.run_id, "completed")
    assert f"the run was reset; what came before was done by run {before.run_id}" in all_notes(run)
    assert [pause.kind for pause in run.pauses] == ["reset", "timer"]
    assert run.steps[0].began_at == before.steps[0].began_at


async def test_a_parent_is_told_without_the_history_of_its_child(plain: Client, bereft: str) -> None:
    async def gone() -> bool:
        try:
            await read_run(plain, f"{bereft}-child")
        except RunNotFoundError as error:
            assert "may be deleted" in str(error)
            return True
        return False

    await until(gone, within_s=100)
    run = await read_run(plain, bereft)
    assert len(run.steps) == 2
    (child,) = run.sub_agents
    assert (child.agent, child.status, child.history_is_gone) == ("Child", "completed", True)
    assert child.wall_ms > 0
    assert child.on_critical_path
    assert run.orchestration_ms is None  # the child's steps are unknown
    assert "may be deleted" in all_notes(run)
