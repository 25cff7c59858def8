"""The trace of one run: its steps and sub-agents with their parts, its critical path, what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, computed_field
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.errors import RunNotFoundError
from orchestrator.placement import Dispatch, Plan
from orchestrator.timing import CallTiming
from orchestrator.trace.parts import StepParts
from orchestrator.trace.timeline import Step, Timeline

TOLERANCE_MS = 5.0
"""Parts and wall time may differ by so much: times of history are whole milliseconds in places."""


class StepTrace(BaseModel):
    """One step of a run."""

    model_config = ConfigDict(frozen=True)

    agent: str
    step: str
    sequence: int | None
    activity_id: str
    place: str | None
    ran_in: str | None
    """Where the worker says that it runs; None where it said nothing."""

    dispatch: Dispatch
    attempts: int
    began_at: datetime
    ended_at: datetime | None
    predicted_ms: float | None
    parts: StepParts | None
    calls: tuple[CallTiming, ...] = ()
    error: str | None = None
    on_critical_path: bool = False

    @computed_field
    @property
    def wall_ms(self) -> float | None:
        """From the call in the agent's code to the turn that has the result; None while it goes on."""
        return None if self.ended_at is None else _ms(self.ended_at - self.began_at)


class RunTrace(BaseModel):
    """One run, or one sub-agent of it."""

    model_config = ConfigDict(frozen=True)

    agent: str
    workflow_id: str
    run_id: str
    cell: str | None
    home: str | None
    origin: str | None
    residency: str | None
    status: str
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    read_at: datetime
    predicted_ms: float | None
    start_ms: float | None
    """From its acceptance by the cell to the first turn of its code; None before that."""

    steps: tuple[StepTrace, ...] = ()
    sub_agents: tuple[RunTrace, ...] = ()
    began_at: datetime
    """When the agent above called it; of the run itself when it was accepted."""

    resumed_at: datetime | None
    """When the agent above had its answer; of the run itself when it ended."""

    on_critical_path: bool = True
    waits_for: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What cannot be told, and why."""

    plan: Plan | None = Field(default=None, exclude=True)

    @computed_field
    @property
    def wall_ms(self) -> float:
        """From start to end, or to now."""
        return _ms((self.ended_at or self.read_at) - self.started_at)

    @computed_field
    @property
    def orchestration_ms(self) -> float | None:
        """What the critical path took beside the bodies of its steps; None while the run goes on."""
        if self.ended_at is None:
            return None
        bodies = (step.parts.execution_ms for step in self.critical_steps() if step.parts)
        return max(0.0, self.wall_ms - sum(bodies))

    def all_steps(self) -> Iterator[StepTrace]:
        """Its own steps and those of its sub-agents."""
        yield from self.steps
        for below in self.sub_agents:
            yield from below.all_steps()

    def all_agents(self) -> Iterator[RunTrace]:
        """Itself and its sub-agents."""
        yield self
        for below in self.sub_agents:
            yield from below.all_agents()

    def critical_steps(self) -> Iterator[StepTrace]:
        """Those whose time is the run's, below sub-agents that are on the path too."""
        yield from (step for step in self.steps if step.on_critical_path)
        for below in self.sub_agents:
            if below.on_critical_path:
                yield from below.critical_steps()


async def read_run(client: Client, workflow_id: str, run_id: str | None = None) -> RunTrace:
    """The trace of a run, read from its cell.

    Args:
        client: Of the run's cell.
        workflow_id: Of the run.
        run_id: Temporal's run id; the latest run of the workflow id if left out.

    Raises:
        RunNotFoundError: The cell does not know it (any more).
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    try:
        description = await handle.describe()
        timeline = Timeline()
        async for event in client.get_workflow_handle(
            workflow_id, run_id=description.run_id
        ).fetch_history_events():
            timeline.read(event)
    except RPCError as error:
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            raise RunNotFoundError(
                f"run {workflow_id}: namespace {client.namespace} has no history of it; "
                "it may be deleted, or its id be another"
            ) from error
        raise
    below: list[RunTrace] = []
    notes: list[str] = []
    for child in timeline.sub_agents():
        try:
            traced = await read_run(client, child.workflow_id, child.run_id)
        except RunNotFoundError as error:
            notes.append(str(error))
            continue
        below.append(traced.model_copy(update={"began_at": child.began_at, "resumed_at": child.ended_at}))
    return traced_run(timeline, description, below, notes)


def traced_run(
    timeline: Timeline,
    description: WorkflowExecutionDescription,
    sub_agents: Iterable[RunTrace],
    notes: Iterable[str] = (),
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
        read_at=datetime.now(UTC),
        predicted_ms=plan.latency_ms if plan else None,
        start_ms=_ms(timeline.first_task_at - started_at) if timeline.first_task_at else None,
        steps=tuple(steps),
        sub_agents=tuple(sub_agents),
        began_at=started_at,
        resumed_at=timeline.ended_at,
        waits_for=tuple(_waiting(description)) if timeline.ended_at is None else (),
        notes=(*notes, *_notes(timeline, steps)),
        plan=plan,
    )
    return _with_critical_path(trace)


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
        error=step.error,
    )


def _with_critical_path(trace: RunTrace) -> RunTrace:
    """Marks it: from the end backwards, always what ended last before the point that was reached."""
    reached = trace.ended_at or trace.read_at
    ends: list[tuple[datetime, datetime, str, int]] = []
    for index, step in enumerate(trace.steps):
        ends.append((step.ended_at or reached, step.began_at, "step", index))
    for index, below in enumerate(trace.sub_agents):
        ends.append((below.resumed_at or reached, below.began_at, "agent", index))
    critical: set[tuple[str, int]] = set()
    for ended_at, began_at, kind, index in sorted(ends, reverse=True):
        if ended_at <= reached:
            critical.add((kind, index))
            reached = min(reached, began_at)
    return trace.model_copy(
        update={
            "steps": tuple(
                step.model_copy(update={"on_critical_path": ("step", index) in critical})
                for index, step in enumerate(trace.steps)
            ),
            "sub_agents": tuple(
                below.model_copy(update={"on_critical_path": ("agent", index) in critical})
                for index, below in enumerate(trace.sub_agents)
            ),
        }
    )


def _waiting(description: WorkflowExecutionDescription) -> Iterator[str]:
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


def _notes(timeline: Timeline, steps: Iterable[StepTrace]) -> Iterator[str]:
    if timeline.unreadable_plan:
        yield timeline.unreadable_plan
    elif timeline.plan is None:
        yield "the run was started without a plan: no receipts, no predictions"
    for step in steps:
        skew_ms = step.parts.clock_skew_ms if step.parts else None
        if skew_ms is not None and abs(skew_ms) > TOLERANCE_MS:
            yield (
                f"the clock of the worker in {step.ran_in} is off by {skew_ms:+.0f} ms or more "
                f"(step {step.step}); the server's times are used"
            )
        if step.ran_in is not None and step.place is not None and step.ran_in != step.place:
            yield f"step {step.step} was placed in {step.place} and ran in {step.ran_in}"


def _ms(duration: timedelta) -> float:
    return duration / timedelta(milliseconds=1)
