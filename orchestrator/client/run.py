"""A run that was started from an origin: its plan, its stream, its result, its steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import httpx
from temporalio.client import WorkflowHandle

from orchestrator.client.admission import Admitted
from orchestrator.client.follower import Follower
from orchestrator.client.stream import follow
from orchestrator.placement import Plan
from orchestrator.streams import StreamPiece
from orchestrator.topology import Topology
from orchestrator.trace import StepRecord, read_steps

ResultT = TypeVar("ResultT")


class EdgeRun(Generic[ResultT]):
    """One run of an agent. ``EdgeClient.start`` makes it."""

    def __init__(
        self,
        follower: Follower,
        *,
        topology: Topology,
        http: httpx.AsyncClient,
        admitted: Admitted,
        answer: asyncio.Task[ResultT] | None = None,
    ) -> None:
        self._follower = follower
        self._topology = topology
        self._http = http
        self._admitted = admitted
        self._result: asyncio.Task[ResultT] | None = None
        if answer is not None:
            self._result = self._watched(answer)

    @property
    def plan(self) -> Plan:
        """Home and places, and why: fixed before the run started. A restarted run has another plan."""
        return self._follower.submission.plan

    @property
    def handle(self) -> WorkflowHandle[object, ResultT]:
        """Temporal's own handle, for everything else (signal, query, cancel, describe)."""
        return self._follower.handle

    @property
    def restarts(self) -> int:
        """How often it was started again because its cell was lost (``@agent(on_cell_loss="restart")``)."""
        return self._follower.restarts

    @property
    def id(self) -> str:
        """The workflow id."""
        return self.handle.id

    @property
    def run_id(self) -> str | None:
        """Temporal's run id. None for a run that was submitted: its latest run is meant."""
        return self.handle.first_execution_run_id

    async def result(self) -> ResultT:
        """What the agent returned. While the run's cell is away it waits, as long as its caller does.

        Raises:
            CellUnavailableError: A run that was submitted found no cell to start in.
            temporalio.client.WorkflowFailureError: The run failed; ``cause`` says why. A step's
                error keeps its class name as the ``type`` of the innermost ``ApplicationError``.
        """
        return await asyncio.shield(self._waiting())

    async def recorded(self) -> ResultT:
        """What the run's history holds at last; the same as ``result()`` but for early answers.

        Raises:
            temporalio.client.WorkflowFailureError: The run failed.
        """
        return await self._follower.result()

    async def stream(self) -> AsyncIterator[StreamPiece]:
        """Pieces of text, as the steps emit them, straight from their places.

        Ends when the run has ended. Nothing is lost for good with a piece that does not
        arrive: ``result()`` has the durable answer.
        """
        async for piece in follow(self._http, self._controls(), self.id, self._waiting()):
            yield piece

    async def steps(self) -> list[StepRecord]:
        """What ran so far, read from history: sub-agents' steps included."""
        return await read_steps(self._follower.submission.client, self.id, self.run_id)

    def _waiting(self) -> asyncio.Task[ResultT]:
        # one long poll, however often the result is asked for
        if self._result is None:
            self._result = self._watched(asyncio.create_task(self._follower.result()))
        return self._result

    def _watched(self, answer: asyncio.Task[ResultT]) -> asyncio.Task[ResultT]:
        self._admitted.wait()
        answer.add_done_callback(self._has_ended)
        return answer

    def _has_ended(self, answer: asyncio.Task[ResultT]) -> None:
        # a stream alone never asks for the exception
        cancelled = answer.cancelled()
        self._admitted.leave(None if cancelled else answer.exception(), cancelled=cancelled)

    def _controls(self) -> list[str]:
        regions: dict[str, None] = {}
        for agent in self.plan.root.walk():
            regions[agent.home] = None
            regions.update((step.chosen.region, None) for step in agent.steps.values() if step.candidates)
        controls = (self._topology.region(region).control for region in regions)
        return [control for control in controls if control is not None]
