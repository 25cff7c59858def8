"""The ways to start a run and to get its answer: which is the shortest depends on who asks.

| who asks | way | the answer is |
|---|---|---|
| from anywhere | start and answer in one request to the cell | durable |
| in the process of the home's worker | eager start, then a poll | durable |
| there, ``early`` | eager start, then from the workflow itself | about to be durable |
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import Priority, RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from orchestrator.agents import AgentDefinition
from orchestrator.budgets import Budget
from orchestrator.client.options import RunOptions
from orchestrator.dispatch import (
    ANSWER_UPDATE,
    ELSEWHERE,
    TASK_TIMEOUT,
    Lineage,
    RunLimits,
    early_answers,
    passes_raw_values,
    starting,
)
from orchestrator.dispatch.tracing.spans import invoking
from orchestrator.placement import Plan
from orchestrator.queues import agents_queue
from orchestrator.temporal_seams import result_type

EARLY_PATIENCE = timedelta(milliseconds=250)
"""An answer that is not here by then may be given in another process: its cell is asked, too."""


GRACE = timedelta(seconds=10)
"""A run ends itself at its deadline. If it cannot, its cell ends it so much later."""


@dataclass(frozen=True)
class StartLimits:
    """What a run may use and on whose behalf it runs.

    Args:
        budget: Of this very run, besides its agent's.
        longest: Until it has to be over, the agent's deadline included; None for no end.
        priority: Its tenant, for Temporal.
        counts_from_s: When its time began, on the clock of ``time.monotonic``.
    """

    budget: Budget | None = None
    longest: timedelta | None = None
    priority: Priority = Priority.default
    counts_from_s: float = 0.0

    @classmethod
    def of(cls, agent: AgentDefinition, options: RunOptions) -> StartLimits:
        """Those of a run that is about to start."""
        given = options.limits
        ends = given is not None or (agent.budget is not None and agent.budget.duration is not None)
        if not ends and options.tenant is None:
            return NO_LIMITS
        both = (given or Budget()).merged(agent.budget)
        return cls(given, both.duration, options.priority, time.monotonic())

    def now(self) -> tuple[RunLimits | None, timedelta | None]:
        """For the run's header, and the timeout of its execution: what is left at this moment.

        A run that is started again, because its cell was lost, has the rest of the time of the first one.
        """
        if self.longest is None:
            return (RunLimits(budget=self.budget) if self.budget is not None else None), None
        passed = timedelta(seconds=time.monotonic() - self.counts_from_s)
        left = max(SHORTEST_LIFE, self.longest - passed)
        budget = (self.budget or Budget()).merged(Budget(duration=left))
        return RunLimits(budget=budget), left + GRACE


SHORTEST_LIFE = timedelta(milliseconds=1)

NO_LIMITS = StartLimits()


@dataclass(frozen=True)
class Submission:
    """A run that is about to start.

    Args:
        client: Of the plan's cell.
        plan: Of the run.
        agent: Run method of the agent.
        arguments: What it takes.
        workflow_id: Of the run.
        limits: What it may use, and on whose behalf.
        beside_home: Whether the client is the one of the home's worker in this process. The
            first workflow task then comes with the response to the start (eager start).
        lineage: Which run it is, if it may be restarted in another cell.
        once: Whether a run with this id, also one that has ended, keeps it from being started.
    """

    client: Client
    plan: Plan
    agent: Callable[..., Any]
    arguments: Sequence[Any]
    workflow_id: str
    limits: StartLimits = NO_LIMITS
    beside_home: bool = False
    lineage: Lineage | None = None
    once: bool = False

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        """The run of this id in the plan's cell, whether it has been accepted or not."""
        return self.client.get_workflow_handle_for(self.agent, self.workflow_id)

    @property
    def _reuse(self) -> WorkflowIDReusePolicy:
        return WorkflowIDReusePolicy.REJECT_DUPLICATE if self.once else WorkflowIDReusePolicy.ALLOW_DUPLICATE

    async def started(self) -> WorkflowHandle[Any, Any]:
        """Starts the run; returns when its cell has accepted it."""
        limits, timeout = self.limits.now()
        with invoking(self.plan, self.workflow_id), starting(self.plan, self.lineage, limits):
            return await self.client.start_workflow(
                self.agent,
                args=list(self.arguments),
                id=self.workflow_id,
                task_queue=agents_queue(self.plan.home, homebound=self.plan.root.homebound),
                task_timeout=TASK_TIMEOUT,
                execution_timeout=timeout,
                priority=self.limits.priority,
                request_eager_start=self.beside_home,
                id_reuse_policy=self._reuse,
            )

    async def answered(self, *, early: bool) -> Any:
        """Starts the run; returns its answer, by the shortest way.

        Raises:
            temporalio.client.WorkflowFailureError: The run failed.
            temporalio.exceptions.WorkflowAlreadyStartedError: A run with this id is going on.
        """
        with invoking(self.plan, self.workflow_id):
            if self.beside_home:
                return await (self._handed_over() if early else self._polled())
            if passes_raw_values(self.client.data_converter.payload_converter):
                return await self._updated()
            return await self._polled()

    async def _polled(self) -> Any:
        return await (await self.started()).result()

    async def _handed_over(self) -> Any:
        """The answer from the workflow itself, or from the cell if that has it first."""
        with early_answers.expected(self.workflow_id) as answer:
            handle = await self.started()
            await asyncio.wait([answer], timeout=EARLY_PATIENCE.total_seconds())
            if not answer.done():
                polling = asyncio.create_task(handle.result())
                await asyncio.wait([answer, polling], return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    return await polling
                polling.cancel()
            payload = answer.result()
        return await handle.result() if payload is None else self._decoded(payload)

    async def _updated(self) -> Any:
        """Start and answer in one request: the update waits for what the run returns."""
        limits, timeout = self.limits.now()
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            self.agent,
            args=list(self.arguments),
            id=self.workflow_id,
            task_queue=agents_queue(self.plan.home, homebound=self.plan.root.homebound),
            task_timeout=TASK_TIMEOUT,
            execution_timeout=timeout,
            priority=self.limits.priority,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=self._reuse,
        )
        try:
            with starting(self.plan, self.lineage, limits):
                answer: RawValue = await self.client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType] -- the SDK leaves an overload open
                    ANSWER_UPDATE, start_workflow_operation=operation, result_type=RawValue
                )
        except WorkflowUpdateFailedError:
            # the run ended otherwise than by returning, or its home's workers do not know the update
            return await (await operation.workflow_handle()).result()
        except (Exception, asyncio.CancelledError):
            # the SDK keeps its error in the operation as well, and complains if nobody looks at it
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(operation.workflow_handle(), timeout=0.01)
            raise
        if answer.payload == ELSEWHERE:
            return await (await operation.workflow_handle()).result()
        return self._decoded(answer.payload)

    def _decoded(self, payload: Payload) -> Any:
        return self.client.data_converter.payload_converter.from_payload(payload, result_type(self.agent))
