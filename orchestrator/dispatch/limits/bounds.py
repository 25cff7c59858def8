"""Deadline and budget of one run, as its workflow applies them to steps and sub-agents.

Both come from headers of the start: what the agent declares from the plan, what this very run was given from
the limits. Everything here runs in workflows, and counts by what is in the history.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.worker import (
    ExecuteWorkflowInput,
    StartActivityInput,
    StartChildWorkflowInput,
    StartLocalActivityInput,
)

from orchestrator.budgets import Budget
from orchestrator.dispatch.failures import as_failure
from orchestrator.dispatch.headers import RunLimits, limits_of, with_limits
from orchestrator.dispatch.limits.budget import Ledger
from orchestrator.dispatch.limits.counted import ONCE, CountedStep
from orchestrator.errors import BudgetExceededError, DeadlineExceededError
from orchestrator.placement import AgentPlan, Plan

InputT = TypeVar("InputT", StartActivityInput, StartLocalActivityInput)

Start = Callable[[InputT, int], workflow.ActivityHandle[Any]]
"""Dispatches a step; is given how often that was done before in the same place."""

SHORTEST = timedelta(milliseconds=1)
"""A timeout of Temporal's is at least this long."""


class RunBounds:
    """What one run may use, and until when.

    Args:
        budget: Of the run; its duration counts in ``ends_at``.
        ends_at: When the run has to be over, on the server's clock; None for never.
        handoffs: How often each sub-agent is expected.
    """

    def __init__(self, budget: Budget, ends_at: datetime | None, handoffs: Mapping[str, float]) -> None:
        self.ends_at = ends_at
        self._limits_tokens = budget.tokens is not None
        self.used_outside = budget.is_used_outside
        """Whether a step that ran again unseen would go over the budget."""

        self.ledger = Ledger(budget, handoffs) if budget.counts else None

    def tokens_of(self, declared: int | None) -> int | None:
        """What the models of a step may generate: what it declares; under a budget nothing without that."""
        return 0 if declared is None and self._limits_tokens else declared

    def bound(self, input: StartActivityInput | StartLocalActivityInput) -> None:
        """Gives a step what is left of the run's time.

        Raises:
            ApplicationError: Nothing is left (``DeadlineExceededError``).
        """
        if self.ends_at is None:
            return
        left = self.ends_at - workflow.now()
        if left < SHORTEST:
            raise _deadline_exceeded(f"step {input.activity} is not started", self.ends_at)
        input.schedule_to_close_timeout = min(left, input.schedule_to_close_timeout or left)

    def counted(
        self, input: InputT, tokens: int | None, price: float, start: Start[InputT]
    ) -> workflow.ActivityHandle[Any]:
        """Starts a step after reserving what it may use, and again for each time that it is tried again.

        Args:
            input: Of the step.
            tokens: That its models may generate.
            price: Of the offers that it uses.
            start: Starts it.

        Raises:
            ApplicationError: There is not enough left (``BudgetExceededError``).
        """
        ledger = self.ledger
        if ledger is None:
            return start(input, 0)
        total = input.schedule_to_close_timeout
        ends_at = workflow.now() + total if total else None

        def reserve() -> None:
            try:
                ledger.reserve(f"step {input.activity}", tokens=tokens or 0, price=price)
            except BudgetExceededError as error:
                raise as_failure(error) from None

        def start_once(before: int) -> workflow.ActivityHandle[Any]:
            again = dataclasses.replace(input, retry_policy=ONCE)
            if before:
                again.activity_id = f"{input.activity_id}.again{before}"
                if ends_at is not None:
                    again.schedule_to_close_timeout = ends_at - workflow.now()
            return start(again, before)

        policy = input.retry_policy or RetryPolicy()
        release = partial(ledger.release, tokens=tokens or 0, price=price)
        return CountedStep(input.activity, policy, ends_at, reserve, release, start_once).handle()

    async def start_sub_agent(
        self,
        input: StartChildWorkflowInput,
        below: AgentPlan | None,
        start: Callable[[], Any],
    ) -> workflow.ChildWorkflowHandle[Any, Any]:
        """Starts a sub-agent with its share of the budget, and what is left of the time.

        Args:
            input: Of the start.
            below: The sub-agent's plan; None where it has none of its own.
            start: Starts it.

        Raises:
            ApplicationError: No time or no step is left.
        """
        if self.ends_at is not None and self.ends_at - workflow.now() < SHORTEST:
            raise _deadline_exceeded(f"sub-agent {input.workflow} is not started", self.ends_at)
        declared = below.budget if below is not None else None
        try:
            share = None if self.ledger is None else self.ledger.share(input.workflow, declared)
        except BudgetExceededError as error:
            raise as_failure(error) from None
        input.headers = with_limits(input.headers, RunLimits(budget=share, ends_at=self.ends_at))
        try:
            return await start()
        except WorkflowAlreadyStartedError:
            if self.ledger is not None and share is not None:
                self.ledger.give_back(input.workflow, share)
            raise

    def go_on(self, headers: Mapping[str, Payload]) -> dict[str, Payload]:
        """These headers and what is left, for the next execution of the same run."""
        left = None if self.ledger is None else self.ledger.left
        return with_limits(headers, RunLimits(budget=left, ends_at=self.ends_at))

    async def in_time(
        self, running: Callable[[ExecuteWorkflowInput], Any], input: ExecuteWorkflowInput
    ) -> Any:
        """What the agent's code returns; it is cancelled at the run's deadline.

        Raises:
            ApplicationError: It did not return by then (``DeadlineExceededError``).
        """
        if self.ends_at is None:
            return await running(input)
        limit = asyncio.timeout(max(SHORTEST, self.ends_at - workflow.now()).total_seconds())
        try:
            async with limit:
                return await running(input)
        except (GeneratorExit, workflow.ContinueAsNewError):
            raise
        except BaseException as error:
            # what its code makes of being cancelled, or of a step that got no more time, is not the reason
            if not limit.expired() and workflow.now() < self.ends_at:
                raise
            raise _deadline_exceeded(f"{workflow.info().workflow_type} is not done", self.ends_at) from error


def bounds_of(plan: Plan | None, headers: Mapping[str, Payload], started_at: datetime) -> RunBounds | None:
    """The bounds of a run; None where it has none.

    Args:
        plan: Of the run.
        headers: Of its start.
        started_at: When it started, on the server's clock.
    """
    if plan is None:
        return None
    given = limits_of(headers)
    declared = plan.root.budget
    if given is None and declared is None:
        return None
    budget = (declared or Budget()).merged(given.budget if given is not None else None)
    ends = [started_at + budget.duration] if budget.duration is not None else []
    if given is not None and given.ends_at is not None:
        ends.append(given.ends_at)
    if not ends and not budget.counts:
        return None
    handoffs = {name: below.expected_calls for name, below in plan.root.handoffs.items()}
    return RunBounds(budget, min(ends, default=None), handoffs)


def _deadline_exceeded(what: str, ends_at: datetime) -> ApplicationError:
    return as_failure(
        DeadlineExceededError(
            f"{what}: the run's deadline was {ends_at.isoformat(timespec='milliseconds')}; "
            "give the run more time"
        )
    )
