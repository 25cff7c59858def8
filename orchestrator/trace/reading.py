"""Reads the trace of a run from its cell: its history, its sub-agents' and its chain's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import ContinueAsNewInitiator
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.errors import RunNotFoundError
from orchestrator.trace.critical_path import with_critical_path
from orchestrator.trace.remarks import remarks
from orchestrator.trace.run_trace import RunTrace, StepTrace
from orchestrator.trace.timeline import Timeline
from orchestrator.trace.values import Step, SubAgent

CHAIN_LIMIT = 20
"""So many earlier runs of a chain are looked up, one request each."""

AT_A_TIME = 16
"""Histories of sub-agents that are read at the same time."""


async def find_run(client: Client, name: str) -> RunTrace:
    """The trace of a run that is known by one of its ids.

    Args:
        client: Of the run's cell.
        name: Its workflow id, or Temporal's run id.

    Raises:
        RunNotFoundError: The cell does not know it (any more).
    """
    try:
        return await read_run(client, name)
    except RunNotFoundError:
        if not _is_run_id(name):
            raise
        async for found in client.list_workflows(f"RunId = '{name}'", limit=1):
            return await read_run(client, found.id, found.run_id)
        raise


async def read_run(client: Client, workflow_id: str, run_id: str | None = None) -> RunTrace:
    """The trace of a run, read from its cell.

    Args:
        client: Of the run's cell.
        workflow_id: Of the run.
        run_id: Temporal's run id; the latest run of the workflow id if left out.

    Raises:
        RunNotFoundError: The cell does not know it (any more).
    """
    return await _read(client, workflow_id, run_id, asyncio.Semaphore(AT_A_TIME))


async def _read(client: Client, workflow_id: str, run_id: str | None, permits: asyncio.Semaphore) -> RunTrace:
    timeline = Timeline()
    try:
        async with permits:
            description = await client.get_workflow_handle(workflow_id, run_id=run_id).describe()
            handle = client.get_workflow_handle(workflow_id, run_id=description.run_id)
            async for event in handle.fetch_history_events():
                timeline.read(event)
            earlier = await _earlier_runs(client, workflow_id, timeline)
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise RunNotFoundError(
                f"run {workflow_id}: namespace {client.namespace} has no history of it; "
                "it may be deleted, or its id be another"
            ) from error
        raise
    below = await asyncio.gather(*(_read_below(client, child, permits) for child in timeline.sub_agents()))
    return traced_run(timeline, description, below, earlier)


async def _read_below(client: Client, child: SubAgent, permits: asyncio.Semaphore) -> RunTrace:
    """A sub-agent with its own history, or with what its caller's tells where there is none."""
    if child.run_id is None:
        return _without_history(child, "it has not started")
    try:
        traced = await _read(client, child.workflow_id, child.run_id, permits)
    except RunNotFoundError as error:
        return _without_history(child, str(error))
    return traced.model_copy(update={"began_at": child.began_at, "resumed_at": child.ended_at})


async def _earlier_runs(client: Client, workflow_id: str, timeline: Timeline) -> tuple[str, ...]:
    """The runs before it in its chain, oldest first, as far as they are there."""
    found: list[str] = []
    started = timeline.started
    while started and started.continued_execution_run_id and len(found) < CHAIN_LIMIT:
        found.append(started.continued_execution_run_id)
        handle = client.get_workflow_handle(workflow_id, run_id=found[-1])
        started = None
        try:
            async for event in handle.fetch_history_events(page_size=1):
                started = event.workflow_execution_started_event_attributes
                break
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return tuple(reversed(found))


def traced_run(
    timeline: Timeline,
    description: WorkflowExecutionDescription,
    sub_agents: Iterable[RunTrace] = (),
    earlier_runs: tuple[str, ...] = (),
) -> RunTrace:
    """Puts a run together from its history and those of its sub-agents."""
    started_at = timeline.started_at or description.start_time
    plan = timeline.plan
    steps = [_step(timeline.agent, step) for step in timeline.steps()]
    trace = RunTrace(
        agent=timeline.agent,
        workflow_id=description.id,
        run_id=description.run_id,
        cell=plan.cell if plan else None,
        home=plan.home if plan else None,
        origin=plan.origin.label if plan else None,
        residency=str(plan.residency) if plan else None,
        status=timeline.status,
        error=timeline.error,
        started_at=started_at,
        ended_at=timeline.ended_at,
        read_at=max(datetime.now(UTC), started_at),
        predicted_ms=plan.latency_ms if plan else None,
        start_ms=(timeline.first_task_at - started_at) / timedelta(milliseconds=1)
        if timeline.first_task_at
        else None,
        steps=tuple(steps),
        pauses=tuple(timeline.pauses()),
        sub_agents=tuple(sub_agents),
        began_at=started_at,
        resumed_at=timeline.ended_at,
        earlier_runs=earlier_runs,
        continued_as=timeline.continued_as,
        notes=(*_chain(timeline, earlier_runs), *remarks(timeline, steps)),
        plan=plan,
    )
    if timeline.ended_at is None:
        trace = trace.model_copy(update={"waits_for": tuple(_waiting(description, trace))})
    return with_critical_path(trace)


def _step(agent: str, step: Step) -> StepTrace:
    return StepTrace(
        agent=agent,
        step=step.name,
        sequence=step.sequence,
        activity_id=step.activity_id,
        place=step.place,
        ran_in=step.timing.region if step.timing else None,
        dispatch=step.dispatch,
        attempts=step.attempts,
        began_at=step.began_at,
        ended_at=step.ended_at,
        predicted_ms=step.predicted_ms,
        parts=step.parts,
        calls=step.timing.calls if step.timing else (),
        calls_left_out=step.timing.calls_left_out if step.timing else 0,
        error=step.error,
        earlier=step.earlier,
        passed_over=step.passed_over,
        hedge=step.hedge,
    )


def _without_history(child: SubAgent, note: str) -> RunTrace:
    return RunTrace(
        agent=child.name,
        workflow_id=child.workflow_id,
        run_id=child.run_id or "",
        cell=None,
        home=None,
        origin=None,
        residency=None,
        status=child.status,
        error=child.error,
        started_at=child.began_at,
        ended_at=child.closed_at,
        read_at=max(datetime.now(UTC), child.began_at),
        predicted_ms=None,
        start_ms=None,
        began_at=child.began_at,
        resumed_at=child.ended_at,
        history_is_gone=True,
        notes=(note,),
    )


def _waiting(description: WorkflowExecutionDescription, trace: RunTrace) -> Iterator[str]:
    """What a run that goes on waits for, as its server tells."""
    raw = description.raw_description
    for activity in raw.pending_activities:
        state = "runs" if activity.HasField("last_started_time") else "waits for a worker"
        text = f"step {activity.activity_type.name} {state} (attempt {activity.attempt})"
        if activity.HasField("last_failure"):
            text += f", after: {activity.last_failure.message}"
        yield text
    for child in raw.pending_children:
        yield f"sub-agent {child.workflow_type_name} ({child.workflow_id})"
    if raw.HasField("pending_workflow_task"):
        yield "its home: a workflow task is open (inline steps run, or no worker polls)"
    else:
        yield from (pause.name for pause in trace.pauses if pause.ended_at is None)


def _chain(timeline: Timeline, earlier: tuple[str, ...]) -> Iterator[str]:
    if earlier and timeline.started is not None:
        why = _INITIATORS.get(timeline.started.initiator, "one run continues another")
        least = "at least " if len(earlier) == CHAIN_LIMIT else ""
        yield (
            f"this is run {least}{len(earlier) + 1} of its chain ({why}); the one before it: "
            f"edgeward trace {earlier[-1]}"
        )
    if timeline.continued_as:
        yield f"the run goes on in another one: edgeward trace {timeline.continued_as}"
    if timeline.reset_from:
        yield f"the run was reset; what came before was done by run {timeline.reset_from}"


_INITIATORS = {
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_WORKFLOW: "continue-as-new",
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_RETRY: "retries of the whole run",
    ContinueAsNewInitiator.CONTINUE_AS_NEW_INITIATOR_CRON_SCHEDULE: "a cron schedule",
}


def _is_run_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
