"""Keeps a home from going on with runs that were started again elsewhere while their cell was away.

A client restarts a run when its cell has been silent for a while (``orchestrator.client.cell_watch``). The
SDK's worker would poll again in the moment in which the cell is back, and go on with the original. So
the worker of a home stops when its cell falls silent, sooner than any client restarts a run; and before
it polls again, it ends the originals of restarted runs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from orchestrator.dispatch import Reconciliation

log = structlog.get_logger(__name__)

SILENT_FOR = timedelta(seconds=4)
"""Without an answer, until the worker stops: less than half of what clients wait."""

ASK_EVERY = timedelta(seconds=1)
ANSWER_WITHIN = timedelta(seconds=2)

RECONCILED_WITHIN = timedelta(seconds=10)
"""How long the runs of the home wait for it."""

LOOK_AGAIN_AFTER = (timedelta(seconds=2), timedelta(seconds=10))
"""The list of a cell's runs lacks those that began right before it went away; it catches up."""


class FencedWorker:
    """A worker of agents that polls only what is still its cell's; used like the SDK's own.

    Args:
        make: Makes the worker; once it was stopped, another one takes its place.
        client: Of its cell.
        reconcile: Ends the originals of restarted runs on its queue.
    """

    def __init__(
        self,
        make: Callable[[], Worker],
        client: Client,
        reconcile: Callable[[str], Awaitable[Reconciliation]],
    ) -> None:
        self._make = make
        self._client = client
        self._reconcile = reconcile
        self._next: Worker | None = make()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._began = False
        self.task_queue = self._next.task_queue

    @property
    def is_running(self) -> bool:
        """Whether ``run`` has been called and has not returned."""
        return self._began and not self._ended.is_set()

    async def run(self) -> None:
        """Works until ``shutdown`` is called.

        Raises:
            Exception: What the SDK's worker cannot go on from.
        """
        self._began = True
        try:
            while not self._stopping.is_set():
                await self._unless_stopping(self._come_back())
                if not self._stopping.is_set():
                    await self._work()
        finally:
            self._ended.set()

    async def shutdown(self) -> None:
        """Takes nothing new, and returns when what it has is done."""
        self._stopping.set()
        await self._ended.wait()

    async def _work(self) -> None:
        worker, self._next = self._next or self._make(), None
        running = asyncio.create_task(worker.run())
        silent = asyncio.create_task(self._silence())
        stopping = asyncio.create_task(self._stopping.wait())
        later = asyncio.create_task(self._look_again())
        try:
            await asyncio.wait([running, silent, stopping], return_when=asyncio.FIRST_COMPLETED)
            if silent.done():
                log.warning("home.stopped", queue=self.task_queue, reason="its cell does not answer")
            if not running.done():
                await worker.shutdown()
            await running
        finally:
            for task in (running, silent, stopping, later):
                task.cancel()
            await asyncio.gather(running, silent, stopping, later, return_exceptions=True)

    async def _come_back(self) -> None:
        """Waits until the cell answers, and ends there what was started again elsewhere."""
        while not await self._reconciled():
            await asyncio.sleep(ASK_EVERY.total_seconds())

    async def _look_again(self) -> None:
        for pause in LOOK_AGAIN_AFTER:
            await asyncio.sleep(pause.total_seconds())
            await self._reconciled()

    async def _reconciled(self) -> bool:
        """Whether the cell could be asked; a cell that does not tell what it has is none to wait for."""
        try:
            async with asyncio.timeout(RECONCILED_WITHIN.total_seconds()):
                found = await self._reconcile(self.task_queue)
        except TimeoutError:
            if not await self._answers():
                return False
            log.warning("cell.not_reconciled", queue=self.task_queue, reason="it takes too long")
        except (RPCError, RuntimeError) as error:
            if isinstance(error, RuntimeError) or error.status is RPCStatusCode.UNAVAILABLE:
                return False
            log.warning("cell.not_reconciled", queue=self.task_queue, reason=error.message)
        else:
            if found.superseded or found.unreachable:
                log.info(
                    "cell.reconciled",
                    cell=found.cell,
                    queue=self.task_queue,
                    superseded=len(found.superseded),
                    unreachable=sorted(found.unreachable),
                )
        return True

    async def _silence(self) -> None:
        """Returns when the cell has not answered for a while."""
        answered = time.monotonic()
        while time.monotonic() - answered < SILENT_FOR.total_seconds():
            asked = time.monotonic()
            if await self._answers():
                answered = time.monotonic()
            await asyncio.sleep(max(0.0, asked + ASK_EVERY.total_seconds() - time.monotonic()))

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                await self._client.workflow_service.get_system_info(
                    GetSystemInfoRequest(), timeout=ANSWER_WITHIN
                )
        except (RPCError, RuntimeError, TimeoutError):
            return False
        return True

    async def _unless_stopping(self, waiting: Awaitable[None]) -> None:
        task, stopping = asyncio.ensure_future(waiting), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)
