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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RawValue, WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from orchestrator.dispatch import (
    ANSWER_UPDATE,
    ELSEWHERE,
    TASK_TIMEOUT,
    Lineage,
    early_answers,
    passes_raw_values,
    starting,
)
from orchestrator.dispatch.tracing import invoking
from orchestrator.placement import Plan
from orchestrator.queues import agents_queue
from orchestrator.temporal_seams import result_type

EARLY_PATIENCE = timedelta(milliseconds=250)
"""An answer that is not here by then may be given in another process: its cell is asked, too."""


@dataclass(frozen=True)
class Submission:
    """A run that is about to start.

    Args:
        client: Of the plan's cell.
        plan: Of the run.
        agent: Run method of the agent.
        arguments: What it takes.
        workflow_id: Of the run.
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
        with invoking(self.plan, self.workflow_id), starting(self.plan, self.lineage):
            return await self.client.start_workflow(
                self.agent,
                args=list(self.arguments),
                id=self.workflow_id,
                task_queue=agents_queue(self.plan.home, homebound=self.plan.root.homebound),
                task_timeout=TASK_TIMEOUT,
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
        operation: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            self.agent,
            args=list(self.arguments),
            id=self.workflow_id,
            task_queue=agents_queue(self.plan.home, homebound=self.plan.root.homebound),
            task_timeout=TASK_TIMEOUT,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            id_reuse_policy=self._reuse,
        )
        try:
            with starting(self.plan, self.lineage):
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
