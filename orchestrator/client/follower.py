"""Follows one run from its start to its one answer, whatever becomes of its cell.

| what happens | ``on_cell_loss="wait"`` | ``on_cell_loss="restart"`` |
|---|---|---|
| its cell cannot be connected to at the start | it starts in the next cell | the same |
| its cell gets the start and is silent | ``start`` raises; ``submit`` waits for the cell | it is restarted |
| its cell is lost while it goes on | the answer waits for the cell | it is restarted |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.client.cell_watch import CellWatch
from orchestrator.client.originals import Originals
from orchestrator.client.starts import MAYBE_SILENCE, START_WITHIN, is_silence, surely_not_sent
from orchestrator.client.submission import Submission
from orchestrator.dispatch import Lineage, end_original
from orchestrator.dispatch.lineage import LINEAGE_MEMO, lineage_in
from orchestrator.errors import CellUnavailableError, PlacementError
from orchestrator.placement import Plan

log = structlog.get_logger(__name__)

CONFIRMED_WITHIN = START_WITHIN + timedelta(seconds=1)
"""Of a start with all that belongs to it."""

AGAIN_AFTER = timedelta(seconds=1)
"""Pause of a run that finds no cell to be restarted in."""

CLOCKS_AGREE_WITHIN = timedelta(minutes=1)
"""A run that the cell began earlier than this before its caller asked for it is another one."""


class Submitting(Protocol):
    """Makes the request that starts a run with a plan."""

    def __call__(self, plan: Plan, *, lineage: Lineage | None, once: bool) -> Submission:
        """For this plan."""
        ...


@dataclass(frozen=True)
class Follow:
    """What a follower needs of its client.

    Args:
        plan: Plans the run, without the cells that are down.
        submission: Makes the request.
        watch: Knows which cells answer.
        originals: Ends what was started again elsewhere.
        restarts: Whether the agent allows that its runs are restarted in another cell.
        own_id: Whether the run's id was made for it, so that no other can have it.
    """

    plan: Callable[[], Plan]
    submission: Submitting
    watch: CellWatch
    originals: Originals
    restarts: bool
    own_id: bool


class _CellLostError(Exception):
    """The cell of a run that may be restarted counts as lost."""


class Follower:
    """One run.

    Args:
        follow: What it needs.

    Raises:
        PlacementError: No home, or a step has no place; names the rule.
        CellUnavailableError: No cell is left that answers.
    """

    def __init__(self, follow: Follow) -> None:
        self._follow = follow
        self._began = datetime.now(UTC)
        self._lineage = Lineage.new() if follow.restarts else None
        self._perhaps_accepted: list[str] = []
        """Cells that may have the run, although it was started again elsewhere."""

        self.submission = self._submission(self._planned())
        self.handle = self.submission.handle

    @property
    def restarts(self) -> int:
        """How often it was started again in another cell."""
        return 0 if self._lineage is None else self._lineage.restarts

    async def start(self) -> None:
        """Returns when a cell has accepted the run.

        Raises:
            CellUnavailableError: None did, or one may have and did not say so.
            temporalio.exceptions.WorkflowAlreadyStartedError: A run with this id is going on.
        """
        while True:
            try:
                await self._accepted()
                return
            except MAYBE_SILENCE as error:
                if not is_silence(error):
                    raise
                self._go_elsewhere(error)

    async def answer(self, *, early: bool) -> Any:
        """Starts the run; its answer, by the shortest way.

        Raises:
            CellUnavailableError: There is no connection to any cell.
            temporalio.client.WorkflowFailureError: The run failed.
            temporalio.exceptions.WorkflowAlreadyStartedError: A run with this id is going on.
        """
        while True:
            try:
                return await self._unless_lost(self.submission.answered(early=early))
            except _CellLostError:
                await self._restart()
                return await self.result()
            except MAYBE_SILENCE as error:
                if not is_silence(error):
                    raise
                if surely_not_sent(error):
                    self._go_elsewhere(error)
                    self.handle = self.submission.handle
                    continue
            if await self._is_there():
                return await self.result()
            self.submission = self._submission(self._planned())
            self.handle = self.submission.handle

    async def result(self) -> Any:
        """What the run returned, from the cell that has it; waits while that is away.

        Raises:
            temporalio.client.WorkflowFailureError: The run failed.
        """
        while True:
            try:
                return await self._unless_lost(self.handle.result())
            except _CellLostError:
                await self._restart()
            except MAYBE_SILENCE as error:
                if not is_silence(error) or self._follow.watch.closed:
                    raise
                self._follow.watch.note_silent(self._cell)
                await self._back_or_lost()

    @property
    def _cell(self) -> str:
        return self.submission.plan.cell

    # -- starting -----------------------------------------------------------------------------

    def _planned(self) -> Plan:
        try:
            return self._follow.plan()
        except PlacementError as error:
            if error.rule != "cell down":
                raise
            raise CellUnavailableError(f"no cell that the run may use answers: {error}") from error

    def _submission(self, plan: Plan) -> Submission:
        return self._follow.submission(plan, lineage=self._lineage, once=self.restarts > 0)

    async def _accepted(self) -> None:
        async with asyncio.timeout(CONFIRMED_WITHIN.total_seconds()):
            self.handle = await self.submission.started()
        for cell in self._perhaps_accepted:
            self._end_original(cell)
        self._perhaps_accepted.clear()

    def _go_elsewhere(self, error: BaseException) -> None:
        """After a start that the cell did not confirm."""
        cell = self._cell
        self._follow.watch.note_silent(cell)
        sent = not surely_not_sent(error)
        if sent:
            if self._lineage is None:
                raise CellUnavailableError(
                    f"cell {cell} did not confirm run {self.submission.workflow_id}: {_reason(error)}; it "
                    "may have accepted it, so look for it when the cell is back before you start it again"
                ) from error
            self._perhaps_accepted.append(cell)
            self._lineage = self._lineage.restarted(cell)
        try:
            plan = self._planned()
        except CellUnavailableError as nowhere:
            perhaps = "; it may have accepted the run" if sent else ""
            raise CellUnavailableError(
                f"cell {cell} does not answer: {_reason(error)}; is its server running?{perhaps}; {nowhere}"
            ) from error
        self.submission = self._submission(plan)

    async def _is_there(self) -> bool:
        """Whether the cell accepted the run, which it did not confirm; waits for the cell."""
        while True:
            self._follow.watch.note_silent(self._cell)
            await self._back_or_lost()
            if self._lineage is not None and self._follow.watch.is_lost(self._cell):
                return True  # it is restarted, whether or not
            try:
                found = await self.handle.describe()
            except MAYBE_SILENCE as error:
                if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                    return False
                if not is_silence(error):
                    raise
                continue
            return self._follow.own_id or found.start_time > self._began - CLOCKS_AGREE_WITHIN

    # -- losing the cell ----------------------------------------------------------------------

    async def _unless_lost(self, waiting: Awaitable[Any]) -> Any:
        if self._lineage is None or self._follow.watch.closed:
            return await waiting
        answer = asyncio.ensure_future(waiting)
        lost = asyncio.create_task(self._follow.watch.lost(self._cell))
        try:
            await asyncio.wait([answer, lost], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise _CellLostError
            return answer.result()
        finally:
            _let_go(answer, lost)

    async def _back_or_lost(self) -> None:
        waiting = [asyncio.create_task(self._follow.watch.answering(self._cell))]
        if self._lineage is not None:
            waiting.append(asyncio.create_task(self._follow.watch.lost(self._cell)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            _let_go(*waiting)

    async def _restart(self) -> None:
        """Start the run again in another cell, or go on with it where it is if that comes back first."""
        assert self._lineage is not None
        lost, before = self._cell, self._lineage
        if lost not in self._perhaps_accepted:
            self._perhaps_accepted.append(lost)
        self._lineage = self._lineage.restarted(lost)
        while self._follow.watch.is_lost(lost) or self._cell != lost:
            if self._follow.watch.closed:
                raise CellUnavailableError(
                    f"cell {lost} does not answer, and the client was closed meanwhile"
                )
            try:
                submission = self._submission(self._planned())
            except (CellUnavailableError, PlacementError):
                # no cell for it, at this moment
                await asyncio.sleep(AGAIN_AFTER.total_seconds())
                continue
            if await self._restarted(submission):
                log.warning(
                    "run.restarted", run=submission.workflow_id, lost_cell=lost, cell=submission.plan.cell
                )
                return
        self._perhaps_accepted.remove(lost)
        self._lineage = before

    async def _restarted(self, submission: Submission) -> bool:
        before = self.submission
        self.submission = submission
        try:
            await self._accepted()
        except WorkflowAlreadyStartedError:
            await self._join()
        except MAYBE_SILENCE as error:
            if not is_silence(error):
                raise
            cell = submission.plan.cell
            self._follow.watch.note_silent(cell)
            if surely_not_sent(error):
                self.submission = before
            else:
                self._perhaps_accepted.append(cell)
                assert self._lineage is not None
                self._lineage = self._lineage.restarted(cell)
            return False
        return True

    async def _join(self) -> None:
        """The cell has a run with this id: that which somebody else restarted, or another one."""
        found = await self.submission.handle.describe()
        theirs = lineage_in({LINEAGE_MEMO: await found.memo_value(LINEAGE_MEMO, default=None)})
        assert self._lineage is not None
        if theirs is not None and theirs.root == self._lineage.root:
            if theirs.restarts >= self._lineage.restarts:
                self.handle = self.submission.handle
                return
            await end_original(
                self.submission.client, self.submission.workflow_id, self._lineage, self.submission.plan.cell
            )
        elif found.status is WorkflowExecutionStatus.RUNNING:
            raise WorkflowAlreadyStartedError(self.submission.workflow_id, found.workflow_type)
        # its id is free again
        self.submission = self._follow.submission(self.submission.plan, lineage=self._lineage, once=False)
        await self._accepted()

    def _end_original(self, cell: str) -> None:
        assert self._lineage is not None
        if cell != self._cell:
            self._follow.originals.end(cell, self.submission.workflow_id, self._lineage, self._cell)


def _let_go(*tasks: asyncio.Future[Any]) -> None:
    # without waiting for them: whoever forgets a run may end the loop under this coroutine
    for task in tasks:
        task.cancel()
        task.add_done_callback(_retrieve)


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
