"""Carries a plan out inside a workflow: queue and dispatch of every step.

Everything here runs in workflows. It reads the plan from the run's start header and the code's
own calls, nothing else, so a replay makes the same choices. Replay compares an activity's id
and type, not its queue, headers or summary; inline or queue it does compare, and that is fixed
by the plan.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property, partial
from typing import Any, ClassVar, NoReturn, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
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
from orchestrator.dispatch.bounds import RunBounds, bounds_of
from orchestrator.dispatch.budget import Ledger
from orchestrator.dispatch.handover import InlineSteps
from orchestrator.dispatch.headers import (
    PLAN_HEADER,
    Assignment,
    plan_of,
    with_assignment,
    with_plan,
)
from orchestrator.dispatch.hedging import HEDGE_ACTIVITY, hedge_budget
from orchestrator.dispatch.lineage import CallKeys, lineage_of, with_lineage, with_memo
from orchestrator.dispatch.payloads import checked
from orchestrator.dispatch.place_again import (
    HEARTBEAT_TIMEOUT,
    PLACE_TIMEOUTS,
    Dispatching,
    PlacedStep,
    Places,
)
from orchestrator.dispatch.run_texts import details_of, sub_agent_summary
from orchestrator.dispatch.search_attributes import add_to_sub_agent
from orchestrator.errors import PayloadTooLargeError
from orchestrator.fleet import RegionHealth
from orchestrator.placement import AgentPlan, Candidate, Dispatch, Plan, StepPlan
from orchestrator.queues import agents_queue, step_queue
from orchestrator.requirements import Residency

InputT = TypeVar("InputT", StartActivityInput, StartLocalActivityInput)

SUMMARY_FROM_MS = 20.0
"""Inline steps that are predicted to be shorter have no summary: one costs the SDK 0.2 ms, a tenth of what
it takes for the whole step (bench ``overhead``)."""

TASK_TIMEOUT = timedelta(seconds=3)
"""How long a home may hold a workflow task. A crashed home is noticed after it, so it is shorter than
Temporal's 10 s: runs of a killed home go on after this time (bench ``tuning``: 5.0 s with 5 s). Inline
steps that take longer extend it by themselves."""

HEDGE_ANSWERED_WITHIN = timedelta(seconds=5)
"""Whether a step may be hedged is a question to the home's own process."""


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
            [result] = _checked(
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
        self.health = health
        self._stored = stored
        self._sequence = 0
        self._key: str | None = None
        """Of the call that is being started, in a run that may be restarted."""

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
    def _inline(self) -> InlineSteps:
        return InlineSteps(workflow.info().run_id)

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """See base class."""
        if self._plan is None:
            return super().start_activity(input)
        input.activity_id = self._next_id(input.activity_id)
        self._key = self._keys.next(input.activity, input.args) if self._keys else None
        if self.bounds is not None:
            self.bounds.bound(input)
        if input.task_queue is not None:
            # the author's decision: it stays, and the step still gets its idempotency key
            assignment = self._assignment(self._plan)
            step = self._plan.root.step(input.activity)
            return self._counted(input, assignment, step, _highest_price(step), self._start_queued)
        placed = self._places_of(self._plan, input.activity)
        if placed is None:
            assignment = self._assignment(self._plan, place=self._plan.home)
            return self._counted(input, assignment, None, 0.0, self._start_queued)
        step, candidates = placed
        root = self._plan.root
        if len(candidates) == 1 and root.without_place == "wait" and not root.standby_jurisdictions:
            return self._start_in(input, step, candidates[0], self._assignment(self._plan))
        return self._start_in_one_of(input, step, candidates)

    def _start_in_one_of(
        self, input: StartActivityInput, step: StepPlan, candidates: Sequence[Candidate]
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step that can go to another place if the first one cannot do it."""
        assert self._plan is not None
        assignment = self._assignment(self._plan)
        first_id = input.activity_id
        total, attempts = input.schedule_to_close_timeout, input.retry_policy
        places = Places(
            step=input.activity,
            candidates=candidates,
            repeatable=step.repeatable,
            without_place=self._plan.root.without_place,
            attempts=(attempts.maximum_attempts or None) if attempts else None,
            ends_at=workflow.now() + total if total else None,
            health=self.health,
            hedge_after=_duration(step.hedge_after_ms) if self._ledger is None else None,
            may_hedge=partial(self._ask_for_hedge, f"{first_id}.hedge"),
        )

        def start(dispatching: Dispatching) -> workflow.ActivityHandle[Any]:
            again = dataclasses.replace(input)
            if dispatching.attempt > 1:
                again.activity_id = f"{first_id}.{dispatching.attempt}"
                if places.ends_at is not None:
                    again.schedule_to_close_timeout = places.ends_at - workflow.now()
            told = assignment.model_copy(
                update={
                    "elsewhere": step.repeatable,
                    "earlier": dispatching.earlier,
                    "hedge": dispatching.hedge,
                }
            )
            return self._start_in(again, step, dispatching.place, told, slot_wait=dispatching.slot_wait)

        if places.hedge_after is not None and not workflow.unsafe.is_replaying():
            hedge_budget.earn()
        return PlacedStep(places, start).handle()

    def _start_in(
        self,
        input: StartActivityInput,
        step: StepPlan,
        place: Candidate,
        assignment: Assignment,
        *,
        slot_wait: timedelta | None = None,
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step in a place. From the second place on it is queued, wherever that is."""
        again = assignment.hedge or assignment.earlier
        inline = place.dispatch == "inline" and input.heartbeat_timeout is None and not again
        if self.bounds is not None and self.bounds.used_outside:
            inline = False  # after a crash it would run again, and nobody would count it
        beats = not inline and step.repeatable and input.heartbeat_timeout is None
        assignment = assignment.model_copy(
            update={
                "place": place.region,
                "dispatch": "inline" if inline else "queue",
                "predicted_ms": place.cost.predicted_ms,
                "heartbeat": beats,
            }
        )
        if not inline or place.cost.predicted_ms >= SUMMARY_FROM_MS:
            input.summary = input.summary or _summary(input.activity, assignment)
        if inline:
            return self._counted(_as_local(input), assignment, step, place.cost.price, self._start_inline)
        input.args = _checked(input.args, f"input of step {input.activity}", stored=self._stored)
        input.task_queue = step_queue(place.region, step.kind)
        if beats:
            input.heartbeat_timeout = HEARTBEAT_TIMEOUT
        if slot_wait is not None:
            input.schedule_to_start_timeout = min(slot_wait, input.schedule_to_start_timeout or slot_wait)
            if step.repeatable:
                input.retry_policy = _leaving_a_place(input.retry_policy)
        return self._counted(input, assignment, step, place.cost.price, self._start_queued)

    def _counted(
        self,
        input: InputT,
        assignment: Assignment,
        step: StepPlan | None,
        price: float,
        start: Callable[[InputT, Assignment], workflow.ActivityHandle[Any]],
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step, with what its models may generate; counted where the run has a budget."""
        bounds, tokens = self.bounds, step.tokens if step is not None else None
        if bounds is not None:
            tokens = bounds.tokens_of(tokens)
        if tokens is not None:
            assignment = assignment.model_copy(update={"tokens": tokens})
        if bounds is None:
            return start(input, assignment)

        def start_again(again: InputT, before: int) -> workflow.ActivityHandle[Any]:
            return start(again, assignment.model_copy(update={"retries": before}) if before else assignment)

        return bounds.counted(input, tokens, price, start_again)

    @property
    def _ledger(self) -> Ledger | None:
        return None if self.bounds is None else self.bounds.ledger

    def _start_queued(
        self, input: StartActivityInput, assignment: Assignment
    ) -> workflow.ActivityHandle[Any]:
        input.headers = with_assignment(input.headers, assignment)
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        """See base class."""
        if self._plan is not None:
            # the author's decision as well
            input.activity_id = self._next_id(input.activity_id)
            self._key = self._keys.next(input.activity, input.args) if self._keys else None
            if self.bounds is not None:
                self.bounds.bound(input)
            assignment = self._assignment(self._plan, place=self._plan.home, dispatch="inline")
            step = self._plan.root.step(input.activity)
            return self._counted(input, assignment, step, _highest_price(step), self._start_inline)
        return super().start_local_activity(input)

    def _ask_for_hedge(self, activity_id: str) -> workflow.ActivityHandle[Any]:
        question = StartLocalActivityInput(
            activity=HEDGE_ACTIVITY,
            args=[],
            activity_id=activity_id,
            schedule_to_close_timeout=HEDGE_ANSWERED_WITHIN,
            schedule_to_start_timeout=None,
            start_to_close_timeout=None,
            retry_policy=RetryPolicy(maximum_attempts=1),
            local_retry_threshold=None,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            headers={},
            summary=None,
            arg_types=[],
            ret_type=bool,
        )
        return super().start_local_activity(question)

    def _start_inline(
        self, input: StartLocalActivityInput, assignment: Assignment
    ) -> workflow.ActivityHandle[Any]:
        forget = self._inline.hand_over(input.activity_id or "", assignment)
        handle = super().start_local_activity(input)
        handle.add_done_callback(forget)
        return handle

    async def start_child_workflow(
        self, input: StartChildWorkflowInput
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        """See base class."""
        if self._plan is None or (input.task_queue is not None and self._ledger is None):
            return await super().start_child_workflow(input)
        if input.task_queue is not None:
            raise ApplicationError(
                f"sub-agent {input.workflow} is started on a queue of its own, where the budget of this run "
                "would not hold; start it without task_queue, by handoff",
                type="BudgetExceededError",
                non_retryable=True,
            )
        input.args = _checked(input.args, f"input of sub-agent {input.workflow}", stored=self._stored)
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
            raise _refused(
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

    def _next_id(self, chosen: str | None) -> str:
        """The activity id of the next step: its number in the run, unless its author chose one.

        The SDK would count as well, but goes on counting when it tries an inline step again.
        """
        self._sequence += 1
        return chosen or str(self._sequence)

    def _assignment(
        self,
        plan: Plan,
        *,
        place: str | None = None,
        dispatch: Dispatch = "queue",
        predicted_ms: float | None = None,
    ) -> Assignment:
        info = workflow.info()
        return Assignment(
            sequence=self._sequence,
            key=self._key,
            root_workflow_id=info.root.workflow_id if info.root else info.workflow_id,
            place=place,
            dispatch=dispatch,
            predicted_ms=predicted_ms,
            residency=_narrowed(plan.root.residency),
        )

    def _places_of(self, plan: Plan, activity: str) -> tuple[StepPlan, Sequence[Candidate]] | None:
        """The places that the ``placing`` blocks leave, best first; None for a step without a plan."""
        step = plan.root.step(activity)
        narrowed = current_requirements()
        if step is None:
            if narrowed is None:
                return None
            raise _refused(
                f"step {activity} is called in a placing block, and the run's plan does not know it; "
                "declare it on the agent or list it in the application",
                rule="no plan",
            )
        if narrowed is None:
            left: Sequence[Candidate] = step.candidates
        else:
            offers = {str(offer) for offer in narrowed.offers}
            left = [
                candidate
                for candidate in step.candidates
                if narrowed.residency.covers(candidate.jurisdictions) and offers <= candidate.offers
            ]
        if left:
            return step, left
        excluded = "; ".join(
            f"{region}: {exclusion.rule} ({exclusion.reason})" for region, exclusion in step.excluded.items()
        )
        if narrowed is None or not step.candidates:
            rules = {exclusion.rule for exclusion in step.excluded.values()}
            rule = next(
                (rule for rule in ("needs", "residency", "draining", "down") if rule in rules), "no place"
            )
            raise _refused(f"step {activity} has no place: {excluded}", rule=rule)
        places = ", ".join(candidate.region for candidate in step.candidates)
        offers = ", ".join(sorted(map(str, narrowed.offers))) or "what it needs"
        raise _refused(
            f"step {activity} has no place left in its placing block: of {places} none lies in "
            f"{narrowed.residency} and offers {offers}",
            rule="placing",
        )


def _highest_price(step: StepPlan | None) -> float:
    """Of a step whose place the author chose."""
    return max((place.cost.price for place in step.candidates), default=0.0) if step is not None else 0.0


def _narrowed(residency: Residency) -> Residency:
    narrowed = current_requirements()
    return residency if narrowed is None else residency.narrowed(narrowed.residency)


def _refused(message: str, *, rule: str) -> ApplicationError:
    # any other exception would fail the workflow task, which Temporal retries for ever
    return ApplicationError(message, {"rule": rule}, type="PlacementError", non_retryable=True)


def _checked(args: Any, what: str, *, stored: bool) -> list[Any]:
    try:
        return checked(args, workflow.payload_converter(), what, stored=stored)
    except PayloadTooLargeError as error:
        raise ApplicationError(str(error), type="PayloadTooLargeError", non_retryable=True) from None


def _summary(activity: str, assignment: Assignment) -> str:
    predicted = f"{assignment.predicted_ms:.0f} ms predicted"
    return f"{activity} → {assignment.place} · {predicted} · {assignment.dispatch}"


def _duration(duration_ms: float | None) -> timedelta | None:
    return None if duration_ms is None else timedelta(milliseconds=duration_ms)


def _leaving_a_place(policy: RetryPolicy | None) -> RetryPolicy:
    """The same policy, but what a place fails by is not tried again there."""
    policy = policy or RetryPolicy()
    types = [*(policy.non_retryable_error_types or ()), *PLACE_TIMEOUTS]
    return dataclasses.replace(policy, non_retryable_error_types=types)


def _as_local(input: StartActivityInput) -> StartLocalActivityInput:
    return StartLocalActivityInput(
        activity=input.activity,
        args=input.args,
        activity_id=input.activity_id,
        schedule_to_close_timeout=input.schedule_to_close_timeout,
        schedule_to_start_timeout=input.schedule_to_start_timeout,
        start_to_close_timeout=input.start_to_close_timeout,
        retry_policy=input.retry_policy,
        local_retry_threshold=None,
        cancellation_type=input.cancellation_type,
        headers=input.headers,
        summary=input.summary,
        event_groups=input.event_groups,
        arg_types=input.arg_types,
        ret_type=input.ret_type,
    )
