"""Plans a run when a client starts it, and puts the plan into the start request."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from temporalio.client import (
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    StartWorkflowUpdateWithStartInput,
    UpdateWithStartStartWorkflowInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.common import SearchAttributes, TypedSearchAttributes
from temporalio.converter import PayloadConverter
from temporalio.service import RPCError

from orchestrator.dispatch.headers import RunLimits, plan_of, with_limits, with_written_plan
from orchestrator.dispatch.lineage import Lineage, with_lineage, with_memo
from orchestrator.dispatch.payloads.sizes import checked
from orchestrator.dispatch.told_plans import ToldPlans
from orchestrator.dispatch.visibility.search_attributes import AttributesOfStarts
from orchestrator.placement import Plan
from orchestrator.stores import NOWHERE, storing_in
from orchestrator.temporal_seams import StartErrors

PlanRun = Callable[[str, str], Plan | None]
"""Given a workflow's name and the task queue it is started on: its plan, or None for none."""

HasStore = Callable[[str], bool]
"""Given a region's name: whether it has a store for what is large."""

_Given = tuple[Plan, Lineage | None, RunLimits | None]

_starting: ContextVar[_Given | None] = ContextVar("edgeward_starting", default=None)


@contextmanager
def starting(plan: Plan, lineage: Lineage | None = None, limits: RunLimits | None = None) -> Generator[None]:
    """The run that is started in this block has this plan.

    Args:
        plan: Of the run.
        lineage: Which run it is, if it may be restarted.
        limits: What it may use, besides what its agent declares.
    """
    token = _starting.set((plan, lineage, limits))
    try:
        yield
    finally:
        _starting.reset(token)


class PlanningOutbound(OutboundInterceptor):
    """Around the calls of one client.

    Args:
        next: The rest of the chain.
        plan_run: Makes the plan of a run that comes without one.
        converter: The client's payload converter.
        has_store: Whether a run's home keeps what is large.
    """

    def __init__(
        self,
        next: OutboundInterceptor,
        plan_run: PlanRun,
        converter: PayloadConverter,
        has_store: HasStore,
    ) -> None:
        super().__init__(next)
        self._plan_run = plan_run
        self._converter = converter
        self._has_store = has_store
        self._attributes = AttributesOfStarts()
        self._told = ToldPlans()

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        """See base class."""
        authored = input.search_attributes
        with self._prepared(input):
            try:
                return await super().start_workflow(input)
            except RPCError as error:
                if not self._given(input, authored, error):
                    raise
            return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        """See base class."""
        start = input.start_workflow_input
        authored = start.search_attributes
        with self._prepared(start):
            if start.search_attributes is authored:
                return await super().start_update_with_start_workflow(input)
            errors = StartErrors()
            try:
                return await super().start_update_with_start_workflow(errors.held_back(input))
            except RPCError as error:
                if not self._given(start, authored, error):
                    errors.hand_on(input)
                    raise
            except BaseException:
                errors.hand_on(input)
                raise
            return await super().start_update_with_start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        """See base class."""
        input.args = checked(input.args, self._converter, f"input of signal {input.signal}")
        # of the run that it goes to nothing is known here: not where its data may be kept either
        with storing_in(NOWHERE):
            await super().signal_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        """See base class."""
        input.args = checked(input.args, self._converter, f"input of update {input.update}")
        with storing_in(NOWHERE):
            return await super().start_workflow_update(input)

    @contextmanager
    def _prepared(self, input: StartWorkflowInput | UpdateWithStartStartWorkflowInput) -> Generator[None]:
        """With its plan in the header; what is large is kept at the home in this block."""
        plan = plan_of(input.headers) or self._planned(input)
        home = plan.home if plan is not None else NOWHERE
        input.args = checked(
            input.args, self._converter, f"input of {input.workflow}", stored=self._has_store(home)
        )
        with storing_in(home):
            yield

    def _planned(self, input: StartWorkflowInput | UpdateWithStartStartWorkflowInput) -> Plan | None:
        given = _starting.get()
        if given is None:
            plan, lineage, limits = self._plan_run(input.workflow, input.task_queue), None, None
        else:
            plan, lineage, limits = given
        if plan is None:
            return None
        if lineage is not None:
            input.headers = with_lineage(input.headers, lineage)
            input.memo = with_memo(input.memo, lineage)
        if limits is not None:
            input.headers = with_limits(input.headers, limits)
        told = self._told.of(plan)
        input.headers = with_written_plan(input.headers, told.header)
        self._attributes.add(input, told.attributes)
        input.static_summary = input.static_summary or told.summary
        input.static_details = input.static_details or told.details
        return plan

    def _given(
        self,
        input: StartWorkflowInput | UpdateWithStartStartWorkflowInput,
        authored: TypedSearchAttributes | SearchAttributes | None,
        error: RPCError,
    ) -> bool:
        """Whether the start was refused for what it was given to be found by; then that is taken back."""
        if input.search_attributes is authored or not self._attributes.refused(error):
            return False
        input.search_attributes = authored
        return True
