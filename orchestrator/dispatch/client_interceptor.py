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
from temporalio.converter import PayloadConverter

from orchestrator.dispatch.headers import PLAN_HEADER, with_plan
from orchestrator.dispatch.payloads import checked
from orchestrator.placement import Plan

PlanRun = Callable[[str, str], Plan | None]
"""Given a workflow's name and the task queue it is started on: its plan, or None for none."""

_starting: ContextVar[Plan | None] = ContextVar("edgeward_starting", default=None)


@contextmanager
def starting(plan: Plan) -> Generator[None]:
    """The run that is started in this block has this plan."""
    token = _starting.set(plan)
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
    """

    def __init__(self, next: OutboundInterceptor, plan_run: PlanRun, converter: PayloadConverter) -> None:
        super().__init__(next)
        self._plan_run = plan_run
        self._converter = converter

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        """See base class."""
        self._plan(input)
        input.args = checked(input.args, self._converter, f"input of {input.workflow}")
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        """See base class."""
        start = input.start_workflow_input
        self._plan(start)
        start.args = checked(start.args, self._converter, f"input of {start.workflow}")
        return await super().start_update_with_start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:
        """See base class."""
        input.args = checked(input.args, self._converter, f"input of signal {input.signal}")
        await super().signal_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        """See base class."""
        input.args = checked(input.args, self._converter, f"input of update {input.update}")
        return await super().start_workflow_update(input)

    def _plan(self, input: StartWorkflowInput | UpdateWithStartStartWorkflowInput) -> None:
        if PLAN_HEADER in input.headers:
            return
        plan = _starting.get() or self._plan_run(input.workflow, input.task_queue)
        if plan is None:
            return
        input.headers = with_plan(input.headers, plan)
        input.static_summary = input.static_summary or (
            f"home {plan.home} · {plan.latency_ms:.0f} ms predicted · residency {plan.residency}"
        )
