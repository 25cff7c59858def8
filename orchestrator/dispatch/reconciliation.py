"""Of a run and of what was started again in its stead, one stands: the one that was restarted last.

A run whose cell was lost is started again in another cell under the same workflow id. When the lost cell
is back, it knows nothing of that: its run would go on. So whoever can reach both cells ends the original:
the client that restarted it, the workers of its home before they take its work again, and an operator's
``edgeward cells reconcile``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import structlog
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.dispatch.lineage import LINEAGE_MEMO, Lineage, lineage_in

log = structlog.get_logger(__name__)

ASKED_WITHIN = timedelta(seconds=2)
"""Of one question to a cell."""

AT_A_TIME = 32
"""Questions to the other cells."""

LOOKED_AT = 10_000
"""So many runs of a cell are looked at, the newest first."""

Outcome = Literal["terminated", "had ended"]


@dataclass(frozen=True)
class Superseded:
    """A run in a cell that was lost, in whose stead another one stands."""

    run: str
    """Workflow id."""

    cell: str
    run_id: str
    outcome: Outcome
    """What became of it now; ``had ended``: it has a result of its own, which does not count."""

    status: str
    """In which it was found."""

    stands_in: str
    """The cell of the run that stands."""

    standing_run: str
    """Its workflow id; of a sub-agent that of the run which the user started."""

    standing_status: str


@dataclass
class Reconciliation:
    """What was found in one cell."""

    cell: str
    looked_at: int = 0
    """Runs that may be restarted."""

    superseded: list[Superseded] = field(default_factory=list[Superseded])
    unreachable: dict[str, str] = field(default_factory=dict[str, str])
    """Cells that could not be asked, and why: runs that were restarted there may go on in both."""

    all_seen: bool = True
    """Whether all runs were looked at."""


async def reconcile(
    cell: str,
    client: Client,
    others: Mapping[str, Client],
    *,
    queues: Sequence[str] = (),
    ended_too: bool = False,
) -> Reconciliation:
    """End what goes on in a cell although it was started again elsewhere. May be repeated at any time.

    Args:
        cell: Its name.
        client: Of it.
        others: Clients of the other cells, by name.
        queues: Only runs on these task queues; all if there are none.
        ended_too: Also tell of runs that had ended before.

    Raises:
        RPCError, RuntimeError, TimeoutError: The cell itself does not answer.
    """
    found = Reconciliation(cell)
    limit = asyncio.Semaphore(AT_A_TIME)

    async def look(execution: WorkflowExecution, lineage: Lineage) -> None:
        async with limit:
            standing = await _standing(execution.root_id or execution.id, lineage, others, found)
            if standing is not None:
                found.superseded.append(await _superseded(client, cell, execution, standing))

    looks: list[asyncio.Task[None]] = []
    try:
        async for execution, lineage in _restartable(client, queues, ended_too, found):
            found.looked_at += 1
            looks.append(asyncio.create_task(look(execution, lineage)))
        await asyncio.gather(*looks)
    finally:
        for task in looks:
            task.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
    return found


async def end_original(
    client: Client, workflow_id: str, standing: Lineage, stands_in: str
) -> WorkflowExecutionStatus | None:
    """End the run that another one was started for.

    Args:
        client: Of the cell that had been lost.
        workflow_id: Of both.
        standing: The lineage of the one that stands.
        stands_in: Its cell.

    Returns:
        In which status it was found; None if the cell has no such run.

    Raises:
        RPCError, RuntimeError, TimeoutError: The cell does not answer.
    """
    described = await _described(client, workflow_id)
    lineage = None if described is None else await _lineage(described)
    if described is None or lineage is None or not standing.outlives(lineage):
        return None
    if described.status is WorkflowExecutionStatus.RUNNING:
        await _terminate(client, described, stands_in)
    return described.status


@dataclass(frozen=True)
class _Standing:
    cell: str
    execution: WorkflowExecution
    restarts: int


async def _restartable(
    client: Client, queues: Sequence[str], ended_too: bool, found: Reconciliation
) -> AsyncIterator[tuple[WorkflowExecution, Lineage]]:
    conditions = [] if ended_too else ["ExecutionStatus = 'Running'"]
    if queues:
        conditions.append(f"TaskQueue IN ({', '.join(repr(queue) for queue in queues)})")
    count = 0
    async for execution in client.list_workflows(" AND ".join(conditions) or None, page_size=1000):
        count += 1
        if count > LOOKED_AT:
            found.all_seen = False
            return
        lineage = await _lineage(execution)
        if lineage is not None:
            yield execution, lineage


async def _standing(
    workflow_id: str, lineage: Lineage, others: Mapping[str, Client], found: Reconciliation
) -> _Standing | None:
    """The run that was restarted last, of those that stand in this one's stead."""
    standing: _Standing | None = None
    for cell, client in others.items():
        if cell in found.unreachable:
            continue
        try:
            described = await _described(client, workflow_id)
        except (RPCError, RuntimeError, TimeoutError) as error:
            found.unreachable[cell] = (str(error).splitlines() or ["no answer"])[0][:200]
            continue
        theirs = None if described is None else await _lineage(described)
        if described is None or theirs is None or not theirs.outlives(lineage):
            continue
        if standing is None or theirs.restarts > standing.restarts:
            standing = _Standing(cell, described, theirs.restarts)
    return standing


async def _superseded(
    client: Client, cell: str, execution: WorkflowExecution, standing: _Standing
) -> Superseded:
    outcome: Outcome = "had ended"
    if execution.status is WorkflowExecutionStatus.RUNNING and await _terminate(
        client, execution, standing.cell
    ):
        outcome = "terminated"
    return Superseded(
        run=execution.id,
        cell=cell,
        run_id=execution.run_id,
        outcome=outcome,
        status=_status(execution),
        stands_in=standing.cell,
        standing_run=standing.execution.id,
        standing_status=_status(standing.execution),
    )


async def _terminate(client: Client, execution: WorkflowExecution, stands_in: str) -> bool:
    """Whether it still went on."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    try:
        await handle.terminate(reason=f"restarted in {stands_in}", rpc_timeout=ASKED_WITHIN)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False  # it ended meanwhile
    log.info("run.superseded", run=execution.id, run_id=execution.run_id, stands_in=stands_in)
    return True


async def _described(client: Client, workflow_id: str) -> WorkflowExecution | None:
    try:
        async with asyncio.timeout(ASKED_WITHIN.total_seconds()):  # its retries included
            return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def _lineage(execution: WorkflowExecution) -> Lineage | None:
    try:
        memo = await execution.memo_value(LINEAGE_MEMO, default=None)
    except Exception:
        # written by a codec that this process lacks, which may fail in any way
        log.warning("lineage.unreadable", run=execution.id)
        return None
    return lineage_in({LINEAGE_MEMO: memo})


def _status(execution: WorkflowExecution) -> str:
    return "unknown" if execution.status is None else execution.status.name.lower()
