"""Starts the steps of one run in their places: which queue, inline or not, and what each dispatch is told.

Everything here runs in workflows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.worker import StartActivityInput, StartLocalActivityInput, WorkflowOutboundInterceptor

from orchestrator.calls import current_requirements
from orchestrator.dispatch.failures import RETRIED_TIMEOUTS, refused
from orchestrator.dispatch.headers import Assignment, with_assignment
from orchestrator.dispatch.limits.bounds import RunBounds
from orchestrator.dispatch.lineage import CallKeys
from orchestrator.dispatch.payloads.sizes import checked_in_workflow
from orchestrator.dispatch.steps.handover import InlineSteps
from orchestrator.dispatch.steps.hedging import HEDGE_ACTIVITY, hedge_budget
from orchestrator.dispatch.steps.place_again import HEARTBEAT_TIMEOUT, Dispatching, PlacedStep, Places
from orchestrator.fleet import RegionHealth
from orchestrator.placement import Candidate, Plan, StepPlan
from orchestrator.queues import step_queue
from orchestrator.requirements import Residency

InputT = TypeVar("InputT", StartActivityInput, StartLocalActivityInput)

SUMMARY_FROM_MS = 20.0
"""Inline steps that are predicted to be shorter have no summary: one costs the SDK 0.2 ms, a tenth of what
it takes for the whole step (bench ``overhead``)."""

HEDGE_ANSWERED_WITHIN = timedelta(seconds=5)
"""Whether a step may be hedged is a question to the home's own process."""


class _Call(NamedTuple):
    """One call of a step: what all its dispatches are told alike."""

    sequence: int
    key: str | None
    root_workflow_id: str
    residency: Residency

    def assignment(self, **more: Any) -> Assignment:
        """Of one dispatch."""
        return Assignment(
            sequence=self.sequence,
            key=self.key,
            root_workflow_id=self.root_workflow_id,
            residency=self.residency,
            **more,
        )


class StepStarter:
    """Starts steps.

    Args:
        next: The rest of the chain of interceptors.
        plan: Of the run.
        health: What this process sees of the regions.
        bounds: Deadline and budget of the run; None where it has neither.
        keys: Of its calls, where it may be restarted in another cell; else None.
        stored: Whether the worker's region has a store for what is large.
    """

    def __init__(
        self,
        next: WorkflowOutboundInterceptor,
        plan: Plan,
        health: RegionHealth,
        *,
        bounds: RunBounds | None,
        keys: CallKeys | None,
        stored: bool,
    ) -> None:
        self._next = next
        self._plan = plan
        self._health = health
        self._bounds = bounds
        self._keys = keys
        self._stored = stored
        info = workflow.info()
        self._root_workflow_id = info.root.workflow_id if info.root else info.workflow_id
        self._inline = InlineSteps(info.run_id)
        self._sequence = 0

    def start(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        """Starts a step where the plan says, or where its author does."""
        call = self._call(input)
        if input.task_queue is not None:
            # the author's decision: it stays, and the step still gets its idempotency key
            step = self._plan.root.step(input.activity)
            assignment = call.assignment(tokens=self._tokens_of(step))
            return self._counted(input, assignment, _highest_price(step), self._start_queued)
        placed = self._places_of(input.activity)
        if placed is None:
            assignment = call.assignment(place=self._plan.home, tokens=self._tokens_of(None))
            return self._counted(input, assignment, 0.0, self._start_queued)
        step, candidates = placed
        root = self._plan.root
        if len(candidates) == 1 and root.without_place == "wait" and not root.standby_jurisdictions:
            return self._start_in(input, step, call, Dispatching(candidates[0], 1, (), None))
        return self._start_in_one_of(input, step, call, candidates)

    def start_local(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        """Starts a step inline, as its author decided."""
        call = self._call(input)
        step = self._plan.root.step(input.activity)
        assignment = call.assignment(place=self._plan.home, dispatch="inline", tokens=self._tokens_of(step))
        return self._counted(input, assignment, _highest_price(step), self._start_inline)

    def _call(self, input: StartActivityInput | StartLocalActivityInput) -> _Call:
        """Numbers a call, and gives it what is left of the run's time.

        Its activity id is its number in the run, unless its author chose one. The SDK would count as well,
        but goes on counting when it tries an inline step again.
        """
        self._sequence += 1
        input.activity_id = input.activity_id or str(self._sequence)
        key = self._keys.next(input.activity, input.args) if self._keys else None
        if self._bounds is not None:
            self._bounds.bound(input)
        return _Call(self._sequence, key, self._root_workflow_id, _narrowed(self._plan.root.residency))

    def _tokens_of(self, step: StepPlan | None) -> int | None:
        """What the models of a step may generate; None for no bound."""
        declared = step.tokens if step is not None else None
        return declared if self._bounds is None else self._bounds.tokens_of(declared)

    def _start_in_one_of(
        self, input: StartActivityInput, step: StepPlan, call: _Call, candidates: Sequence[Candidate]
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step that can go to another place if the first one cannot do it."""
        first_id = input.activity_id
        total, attempts = input.schedule_to_close_timeout, input.retry_policy
        counted = self._bounds is not None and self._bounds.ledger is not None
        places = Places(
            step=input.activity,
            candidates=candidates,
            repeatable=step.repeatable,
            without_place=self._plan.root.without_place,
            attempts=(attempts.maximum_attempts or None) if attempts else None,
            ends_at=workflow.now() + total if total else None,
            health=self._health,
            hedge_after=None if counted else _duration(step.hedge_after_ms),
            hedge_questions=step.hedge_questions,
            may_hedge=partial(self._ask_for_hedge, f"{first_id}.hedge"),
        )

        def start(dispatching: Dispatching) -> workflow.ActivityHandle[Any]:
            again = dataclasses.replace(input)
            if dispatching.attempt > 1:
                again.activity_id = f"{first_id}.{dispatching.attempt}"
                if places.ends_at is not None:
                    again.schedule_to_close_timeout = places.ends_at - workflow.now()
            return self._start_in(again, step, call, dispatching)

        if places.hedge_after is not None and not workflow.unsafe.is_replaying():
            hedge_budget.earn()
        return PlacedStep(places, start).handle()

    def _start_in(
        self, input: StartActivityInput, step: StepPlan, call: _Call, dispatching: Dispatching
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step in a place: inline only where the plan says so of the first one."""
        place, slot_wait = dispatching.place, dispatching.slot_wait
        predicted_ms = place.cost.predicted_ms
        inline = place.dispatch == "inline" and input.heartbeat_timeout is None and not dispatching.moved
        if self._bounds is not None and self._bounds.used_outside:
            inline = False  # after a crash it would run again, and nobody would count it
        beats = not inline and step.repeatable and input.heartbeat_timeout is None
        assignment = call.assignment(
            place=place.region,
            dispatch="inline" if inline else "queue",
            predicted_ms=predicted_ms,
            elsewhere=slot_wait is not None and step.repeatable,
            heartbeat=beats,
            hedge=dispatching.hedge,
            earlier=dispatching.earlier,
            passed_over=dispatching.passed_over,
            tokens=self._tokens_of(step),
            leave_after=dispatching.leave_after if inline else None,
            leave_to=dispatching.leave_to,
        )
        if not inline or predicted_ms >= SUMMARY_FROM_MS:
            input.summary = input.summary or _summary(input.activity, assignment)
        if inline:
            return self._counted(_as_local(input), assignment, place.cost.price, self._start_inline)
        input.args = checked_in_workflow(input.args, f"input of step {input.activity}", stored=self._stored)
        input.task_queue = step_queue(place.region, step.kind)
        if beats:
            input.heartbeat_timeout = HEARTBEAT_TIMEOUT
        if slot_wait is not None:
            input.schedule_to_start_timeout = min(slot_wait, input.schedule_to_start_timeout or slot_wait)
            if step.repeatable:
                input.retry_policy = _leaving_a_place(input.retry_policy)
        return self._counted(input, assignment, place.cost.price, self._start_queued)

    def _counted(
        self,
        input: InputT,
        assignment: Assignment,
        price: float,
        start: Callable[[InputT, Assignment], workflow.ActivityHandle[Any]],
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step; counted where the run has a budget."""
        if self._bounds is None:
            return start(input, assignment)

        def start_again(again: InputT, before: int) -> workflow.ActivityHandle[Any]:
            return start(again, dataclasses.replace(assignment, retries=before) if before else assignment)

        return self._bounds.counted(input, assignment.tokens, price, start_again)

    def _start_queued(
        self, input: StartActivityInput, assignment: Assignment
    ) -> workflow.ActivityHandle[Any]:
        input.headers = with_assignment(input.headers, assignment)
        return self._next.start_activity(input)

    def _start_inline(
        self, input: StartLocalActivityInput, assignment: Assignment
    ) -> workflow.ActivityHandle[Any]:
        self._inline.hand_over(input.activity_id or "", assignment)
        return self._next.start_local_activity(input)

    def _ask_for_hedge(
        self, activity_id: str, region: str, others: Sequence[str], question: int, moved: bool
    ) -> workflow.ActivityHandle[Any]:
        asking = StartLocalActivityInput(
            activity=HEDGE_ACTIVITY,
            args=[region, others, question, moved],
            activity_id=activity_id if question == 1 else f"{activity_id}.{question}",
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
        return self._next.start_local_activity(asking)

    def _places_of(self, activity: str) -> tuple[StepPlan, Sequence[Candidate]] | None:
        """The places that the ``placing`` blocks leave, best first; None for a step without a plan."""
        step = self._plan.root.step(activity)
        narrowed = current_requirements()
        if step is None:
            if narrowed is None:
                return None
            raise refused(
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
            raise refused(f"step {activity} has no place: {excluded}", rule=rule)
        places = ", ".join(candidate.region for candidate in step.candidates)
        offers = ", ".join(sorted(map(str, narrowed.offers))) or "what it needs"
        raise refused(
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


def _summary(activity: str, assignment: Assignment) -> str:
    predicted = f"{assignment.predicted_ms:.0f} ms predicted"
    return f"{activity} → {assignment.place} · {predicted} · {assignment.dispatch}"


def _duration(duration_ms: float | None) -> timedelta | None:
    return None if duration_ms is None else timedelta(milliseconds=duration_ms)


def _leaving_a_place(policy: RetryPolicy | None) -> RetryPolicy:
    """The same policy, but what a place fails by is not tried again there."""
    policy = policy or RetryPolicy()
    types = [*(policy.non_retryable_error_types or ()), *RETRIED_TIMEOUTS.values()]
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
