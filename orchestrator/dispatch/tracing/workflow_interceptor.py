"""Spans and metrics of runs and their queued steps, from inside the workflow, when they have ended.

Nothing here changes what a workflow does. What a replay comes by was emitted when it happened; so
nothing is emitted while replaying, nor while a run leaves this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Any, ClassVar, NoReturn
from weakref import WeakValueDictionary

from opentelemetry.trace import Link, SpanKind
from opentelemetry.util.types import AttributeValue
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import is_cancelled_exception
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from orchestrator.dispatch.headers import Assignment, assignment_of, plan_of
from orchestrator.dispatch.tracing.spans import (
    TRACE_HEADER,
    Tracing,
    context_in,
    error_type,
    mark_failed,
    trace_payload,
)
from orchestrator.placement import Plan, StepPlan
from orchestrator.telemetry import names
from orchestrator.telemetry.spans import (
    SpanWriter,
    link_to_run,
    position_of_run,
    run_span_id,
    step_span_id,
)
from orchestrator.telemetry.step_metrics import record_exclusions, record_many, record_run, record_step
from orchestrator.temporal_seams import activity_id_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


LATER = timedelta(milliseconds=2)
"""When the end of a run or of a queued step is told: after the workflow task that it belongs to, for which
somebody waits (bench ``telemetry``)."""

INLINE_LATER = timedelta(milliseconds=20)
"""When the end of an inline step is told, unless its run ends before: others follow at once."""


class TracedRun:
    """One run: where it stands in its trace, and what is said of it and its steps.

    Args:
        tracing: What listens in this process.
        info: Of the workflow.
        loop: Of the worker, where ends are told ``LATER``; without one they are told at once.
    """

    def __init__(
        self, tracing: Tracing, info: workflow.Info, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._writer = tracing.writer
        self._measures = tracing.measures
        self._info = info
        self._loop = loop
        self._untold: deque[Callable[[], None]] = deque()
        self._telling = False
        self._placed: dict[str, Mapping[str, AttributeValue]] = {}
        operation = names.INVOKE_WORKFLOW if info.parent is None else names.INVOKE_AGENT
        self._name = f"{operation} {info.workflow_type}"
        self._attributes: dict[str, AttributeValue] = {
            names.OPERATION_NAME: operation,
            names.AGENT_NAME: info.workflow_type,
            names.WORKFLOW_NAME: info.workflow_type,
            names.RUN_ID: info.workflow_id,
            names.TEMPORAL_RUN_ID: info.run_id,
        }
        self.position = position_of_run(
            self._writer,
            info.run_id,
            info.first_execution_run_id,
            context_in(info.headers),
            self._name,
            self._attributes,
        )
        _runs[info.run_id] = self

    @cached_property
    def plan(self) -> Plan | None:
        """Of the run, if it has one."""
        return plan_of(self._info.headers)

    @cached_property
    def header(self) -> Any:
        """For what the run starts: steps and sub-agents hang below its span."""
        return trace_payload(self.position.context)

    def placed(self, step: str) -> Mapping[str, AttributeValue]:
        """What the plan says of a step."""
        said = self._placed.get(step)
        if said is None:
            found = self.plan.root.step(step) if self.plan is not None else None
            said = self._placed[step] = {} if found is None else _placed(found)
        return said

    def step_ended(
        self,
        step: str,
        activity_id: str,
        headers: Mapping[str, Payload],
        began_ns: int,
        task: asyncio.Task[Any],
    ) -> None:
        """A queued step has ended, or the run leaves this process."""
        if workflow.unsafe.is_replaying():
            return
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        ended_ns = max(began_ns, time.time_ns())
        self._later(partial(self._tell_step, step, activity_id, headers, began_ns, ended_ns, error))

    def _later(self, tell: Callable[[], None]) -> None:
        self._untold.append(tell)
        if self._loop is None or self._loop.is_closed():
            self._tell_ends()
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, LATER.total_seconds(), self._tell_ends)

    def inline_later(self, tell: Callable[[], None]) -> None:
        """Tells of an inline step, together with others. For the worker's own loop."""
        self._untold.append(tell)
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_later(INLINE_LATER.total_seconds(), self._tell_ends)

    def _tell_ends(self) -> None:
        self._telling = False
        while self._untold:
            self._untold.popleft()()
        record_many()

    def _tell_step(
        self,
        step: str,
        activity_id: str,
        headers: Mapping[str, Payload],
        began_ns: int,
        ended_ns: int,
        error: BaseException | None,
    ) -> None:
        assignment = assignment_of(headers)
        kind = None if error is None else error_type(error)
        if self._measures:
            _record_step(step, assignment, (ended_ns - began_ns) / 1e9, kind)
        span_id = step_span_id(self._info.run_id, activity_id)
        if self._writer is None or not self.position.sampled or not self._writer.claim(span_id):
            return
        span = self._writer.start(
            f"{names.STEP_SPAN} {step}",
            self.position.context,
            {
                **step_attributes(step, self._info.workflow_id, assignment),
                **self.placed(step),
                **({} if self.plan is None else {names.HOME: self.plan.home}),
            },
            kind=SpanKind.CLIENT,
            start_ns=began_ns,
            span_id=span_id,
            sampled=True,
        )
        if error is not None and kind is not None:
            mark_failed(span, error, kind)
        span.end(ended_ns)

    def ended(self, error: BaseException | None) -> None:
        """The run's own code has ended, or left this process."""
        if workflow.unsafe.is_replaying() or (error is not None and not _ends_run(error)):
            return
        self._later(partial(self._tell_run, time.time_ns(), error))

    def _tell_run(self, ended_ns: int, error: BaseException | None) -> None:
        began_ns = nanoseconds(self._info.workflow_start_time)
        ended_ns = max(began_ns, ended_ns)
        failed = error is not None and not isinstance(error, workflow.ContinueAsNewError)
        kind = error_type(error) if error is not None and failed else None
        if self._measures:
            self._record(timedelta(microseconds=(ended_ns - began_ns) / 1000), kind)
        span_id = run_span_id(self._info.run_id)
        if self._writer is None or not self.position.sampled or not self._writer.claim(span_id):
            return
        self._emit(self._writer, span_id, began_ns, ended_ns, error, kind)

    def _emit(
        self,
        writer: SpanWriter,
        span_id: int,
        began_ns: int,
        ended_ns: int,
        error: BaseException | None,
        kind: str | None,
    ) -> None:
        if self.plan is not None:
            self._attributes[names.HOME] = self.plan.home
            self._attributes[names.RESIDENCY] = str(self.plan.root.residency)
        span = writer.start(
            self._name,
            self.position.above,
            self._attributes,
            start_ns=began_ns,
            links=self._links(),
            span_id=span_id,
            trace_id=self.position.trace_id,
            sampled=True,
        )
        if error is not None and kind is not None:
            mark_failed(span, error, kind)
        span.end(ended_ns)

    def _links(self) -> tuple[Link, ...]:
        before = self._info.continued_run_id
        return () if before is None else (link_to_run(before, self.position.trace_id),)

    def _record(self, took: timedelta, kind: str | None) -> None:
        attributes = {names.AGENT_NAME: self._info.workflow_type}
        if kind is not None:
            attributes[names.ERROR_TYPE] = kind
        record_run(took.total_seconds(), attributes)
        if self.plan is not None:
            steps = self.plan.root.steps.values()
            record_exclusions(Counter(left.rule for step in steps for left in step.excluded.values()))


_runs: WeakValueDictionary[str, TracedRun] = WeakValueDictionary()
"""Those that run in this process, by Temporal's run id: inline steps find theirs without a header."""


def traced_run(run_id: str | None) -> TracedRun | None:
    """A run that runs in this process."""
    return None if run_id is None else _runs.get(run_id)


class TracingInbound(WorkflowInboundInterceptor):
    """Around every workflow of a worker."""

    tracing: ClassVar[Tracing]
    loop: ClassVar[asyncio.AbstractEventLoop | None]

    @classmethod
    def telling(cls, tracing: Tracing, loop: asyncio.AbstractEventLoop | None) -> type[TracingInbound]:
        """The class for a worker that runs in this loop."""
        return type(cls.__name__, (cls,), {"tracing": tracing, "loop": loop})

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """See base class."""
        self._run = TracedRun(self.tracing, outbound.info(), self.loop)
        super().init(TracingOutbound(outbound, self._run))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """See base class."""
        try:
            result = await super().execute_workflow(input)
        except GeneratorExit:
            raise
        except BaseException as error:  # continue-as-new is one, too
            self._run.ended(error)
            raise
        self._run.ended(None)
        return result


class TracingOutbound(WorkflowOutboundInterceptor):
    """What one run starts. Below the placing interceptor: each place of a step has a span of its own."""

    def __init__(self, next: WorkflowOutboundInterceptor, run: TracedRun) -> None:
        super().__init__(next)
        self._run = run

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """See base class."""
        headers, step = input.headers, input.activity
        input.headers = {**headers, TRACE_HEADER: self._run.header}
        began_ns = workflow.time_ns() if workflow.unsafe.is_replaying() else time.time_ns()
        handle = super().start_activity(input)
        activity_id = activity_id_of(handle, input.activity_id)
        handle.add_done_callback(partial(self._run.step_ended, step, activity_id, headers, began_ns))
        return handle

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        """See base class."""
        input.headers = {**input.headers, TRACE_HEADER: self._run.header}
        return await super().start_child_workflow(input)

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """See base class."""
        # beside this run and not below it: its span says which run it continues
        above = workflow.info().headers.get(TRACE_HEADER)
        if above is not None:
            input.headers = {**(input.headers or {}), TRACE_HEADER: above}
        super().continue_as_new(input)


def step_attributes(step: str, workflow_id: str, assignment: Assignment | None) -> dict[str, AttributeValue]:
    """What every span of a step says."""
    attributes: dict[str, AttributeValue] = {names.STEP_NAME: step, names.RUN_ID: workflow_id}
    if assignment is not None:
        attributes[names.STEP_SEQUENCE] = assignment.sequence
        attributes[names.DISPATCH] = assignment.dispatch
        attributes[names.RESIDENCY] = str(assignment.residency)
        if assignment.hedge:
            attributes[names.HEDGED] = True
        if assignment.place is not None:
            attributes[names.PLACE] = assignment.place
        if assignment.predicted_ms is not None:
            attributes[names.PREDICTED_MS] = round(assignment.predicted_ms, 3)
    return attributes


def nanoseconds(at: datetime) -> int:
    """Since 1970, as OpenTelemetry counts."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def _record_step(step: str, assignment: Assignment | None, seconds: float, kind: str | None) -> None:
    attributes = {
        names.STEP_NAME: step,
        names.PLACE: (assignment.place if assignment else None) or "",
        names.DISPATCH: names.DISPATCH_QUEUE,
    }
    if kind is not None:
        attributes[names.ERROR_TYPE] = kind
    predicted_ms = assignment.predicted_ms if assignment else None
    record_step(seconds, None if predicted_ms is None else predicted_ms / 1000, attributes)


def _placed(step: StepPlan) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {names.CANDIDATES: len(step.candidates)}
    if step.excluded:
        attributes[names.EXCLUDED] = tuple(step.excluded)
    return attributes


def _ends_run(error: BaseException) -> bool:
    """Whether it ends the run; anything else fails the workflow task, and the run goes on."""
    if isinstance(error, workflow.ContinueAsNewError):
        return True
    if is_cancelled_exception(error) and workflow.cancellation_reason() is not None:
        return True
    return workflow.is_failure_exception(error)
