"""A step that its run may dispatch more than once: one handle for all its dispatches. Runs in workflows."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, cast

from temporalio import workflow


class Redispatched(ABC):
    """One call of a step; the first dispatch is made with it, in the order of the agent's calls.

    Args:
        step: Its name.
        first: Its first dispatch.
    """

    def __init__(self, step: str, first: workflow.ActivityHandle[Any]) -> None:
        self._running = first
        self._step = step
        self._awaited = False

    def handle(self) -> workflow.ActivityHandle[Any]:
        """What the agent's code awaits, and cancels."""
        task = asyncio.create_task(self._awaiting(), name=f"step: {self._step}")
        task.add_done_callback(self._pass_cancellation_on)
        # a handle is a task and nothing more; one of the SDK's own cannot be made from outside
        return cast("workflow.ActivityHandle[Any]", task)

    @abstractmethod
    async def _carry_out(self) -> Any:
        """Awaits ``_running``, and whatever replaces it, until the step has its result or fails."""

    async def _awaiting(self) -> Any:
        self._awaited = True
        return await self._carry_out()

    def _pass_cancellation_on(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled() and not self._awaited:
            # it was cancelled before its coroutine began, which would have passed it on
            self._running.cancel()
