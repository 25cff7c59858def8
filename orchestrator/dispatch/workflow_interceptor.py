"""Carries a plan out inside a workflow: its steps (``step_starter``), its sub-agents, its answer.

Everything here runs in workflows. It reads the plan from the run's start header and the code's
own calls, nothing else, so a replay makes the same choices. Replay compares an activity's id
and type, not its queue, headers or summary; inline or queue it does compare, and that is fixed
by the plan.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property, partial
from typing import Any, ClassVar, NoReturn

from temporalio import workflow
from temporalio.worker import (
    ContinueAsNewInput,
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowOutboundInterceptor,
)

from orchestrator.calls import current_requirements
from orchestrator.dispatch.answer import AnswerUpdate
from orchestrator.dispatch.failures import as_failure, refused
from orchestrator.dispatch.headers import PLAN_HEADER, plan_of, with_plan
from orchestrator.dispatch.limits.bounds import RunBounds, bounds_of
from orchestrator.dispatch.lineage import CallKeys, lineage_of, with_lineage, with_memo
from orchestrator.dispatch.payloads.sizes import checked_in_workflow
from orchestrator.dispatch.steps.step_starter import StepStarter
from orchestrator.dispatch.visibility.run_texts import details_of, sub_agent_summary
from orchestrator.dispatch.visibility.search_attributes import add_to_sub_agent
from orchestrator.errors import BudgetExceededError
from orchestrator.fleet import RegionHealth
from orchestrator.placement import AgentPlan, Plan
from orchestrator.queues import agents_queue

TASK_TIMEOUT = timedelta(seconds=3)
"""How long a home may hold a workflow task. A crashed home is noticed after it, so it is shorter than
Temporal's 10 s: runs of a killed home go on after this time (bench ``tuning``: 5.0 s with 5 s). Inline
steps that take longer extend it by themselves."""


class PlacingInbound(WorkflowInboundInterceptor):
    """Installs the outbound interceptor in every workflow, and lets a run with a plan answer its start."""

    health: ClassVar[RegionHealth]
    """What this process sees of the regions; ``seeing`` sets it."""

    stored: ClassVar[bool] = False
    """Whether the worker's region has a store for what is large."""

    @classmethod
    def seeing(cls, health: RegionHealth, *, stored: bool = False) -> type[PlacingInbound]:
        """The class for the workers that share this view of the regions, and the store of theirs."""
        return type(cls.__name__, (cls,), {"health": health, "stored": stored})

    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        """See base class."""
        self._outbound = PlacingOutbound(outbound, self.health, stored=self.stored)
        super().init(self._outbound)
        self._answer: AnswerUpdate | None = None
        if PLAN_HEADER in outbound.info().headers:
            self._answer = AnswerUpdate()
            self._answer.install()

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        """See base class."""
        if self._answer is None:
            return await super().execute_workflow(input)
        try:
            [result] = checked_in_workflow(
                [await self._executed(input)],
                f"result of {workflow.info().workflow_type}",
                stored=self.stored,
            )
        except GeneratorExit:
            raise
        except BaseException:  # continue-as-new is one, too
            await self._answer.give_nothing()
            raise
        await self._answer.give(result)
        return result

    async def _executed(self, input: ExecuteWorkflowInput) -> Any:
        execute, bounds = super().execute_workflow, self._outbound.bounds
        return await (execute(input) if bounds is None else bounds.in_time(execute, input))


class PlacingOutbound(WorkflowOutboundInterceptor):
    """Places the steps and sub-agents of one run; without a plan it changes nothing."""

    def __init__(
        self, next: WorkflowOutboundInterceptor, health: RegionHealth, *, stored: bool = False
    ) -> None:
        super().__init__(next)
        self._health = health
        self._stored = stored

    @cached_property
    def _keys(self) -> CallKeys | None:
        lineage = lineage_of(workflow.info().headers)
        return None if lineage is None else CallKeys(lineage, workflow.payload_converter())

    @cached_property
    def _plan(self) -> Plan | None:
        # not in __init__: there the run is not known yet
        return plan_of(workflow.info().headers)

    @cached_property
    def bounds(self) -> RunBounds | None:
        """Its deadline and budget; None where it has neither."""
        info = workflow.info()
        return bounds_of(self._plan, info.headers, info.workflow_start_time)

    @cached_property
    def _steps(self) -> StepStarter | None:
        if self._plan is None:
            return None
        return StepStarter(
            self.next,
            self._plan,
            self._health,
            bounds=self.bounds,
            keys=self._keys,
            stored=self._stored,
        )

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """See base class."""
        return super().start_activity(input) if self._steps is None else self._steps.start(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        """See base class."""
        return super().start_local_activity(input) if self._steps is None else self._steps.start_local(input)

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        """See base class."""
        counted = self.bounds is not None and self.bounds.ledger is not None
        if self._plan is None or (input.task_queue is not None and not counted):
            return await super().start_child_workflow(input)
        if input.task_queue is not None:
            raise as_failure(
                BudgetExceededError(
                    f"sub-agent {input.workflow} is started on a queue of its own, where the budget of this "
                    "run would not hold; start it without task_queue, by handoff"
                )
            )
        input.args = checked_in_workflow(
            input.args, f"input of sub-agent {input.workflow}", stored=self._stored
        )
        if self._keys is not None:
            lineage = self._keys.lineage.below(self._keys.next(input.workflow, input.args))
            input.headers = with_lineage(input.headers, lineage)
            input.memo = with_memo(input.memo, lineage)
        below = self._plan.root.handoffs.get(input.workflow)
        if below is None:
            # unplanned: it runs at this home, under this run's rules
            input.headers = with_plan(input.headers, self._plan)
            add_to_sub_agent(input, self._plan)
            return await self._start_sub_agent(input, None)
        narrowed = current_requirements()
        if narrowed is not None:
            below = below.narrowed(narrowed.residency)
        if not below.residency.covers(below.home_jurisdictions):
            raise refused(
                f"sub-agent {input.workflow} has its home in {below.home}, outside {below.residency}; "
                "declare the residency on the agent instead of a block",
                rule="residency",
            )
        input.task_queue = agents_queue(below.home, homebound=below.homebound)
        input.task_timeout = input.task_timeout or TASK_TIMEOUT
        plan = self._plan.model_copy(update={"root": below, "homes": (), "excluded_homes": {}})
        input.headers = with_plan(input.headers, plan)
        add_to_sub_agent(input, plan)
        input.static_summary = input.static_summary or sub_agent_summary(below)
        input.static_details = input.static_details or details_of(plan)
        return await self._start_sub_agent(input, below)

    async def _start_sub_agent(
        self, input: StartChildWorkflowInput, below: AgentPlan | None
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        start = partial(super().start_child_workflow, input)
        return await (start() if self.bounds is None else self.bounds.start_sub_agent(input, below, start))

    def continue_as_new(self, input: ContinueAsNewInput) -> NoReturn:
        """See base class."""
        if self._plan is not None and input.task_queue is None:
            input.headers = with_plan(input.headers or {}, self._plan)
            if self.bounds is not None:
                input.headers = self.bounds.go_on(input.headers)
            if self._keys is not None:
                input.headers = with_lineage(input.headers, self._keys.lineage.went_on())
        super().continue_as_new(input)
