"""Lists the runs of a cell: its index of runs, asked with the filters that people have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.dispatch.visibility.search_attributes import AGENT, HOME, PLACES, RESIDENCY, TYPES
from orchestrator.errors import SetupError
from orchestrator.queues import agents_queue, kind_of, region_of

LOOKED_AT = 1000
"""Runs of a cell that are compared: one page. The server orders by what goes on and what ended last, and
takes no other order."""


class RunStatus(StrEnum):
    """What can be asked for."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    TERMINATED = "terminated"
    CONTINUED_AS_NEW = "continued_as_new"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True)
class RunFilter:
    """Which runs; what is None does not matter."""

    agent: str | None = None
    """The agent's name; of an ordinary Temporal run its workflow type."""

    home: str | None = None
    status: RunStatus | None = None
    place: str | None = None
    """A place that the run's plan chose for a step."""

    slower_than: timedelta | None = None
    """Took longer; a run that goes on counts with its time so far."""

    since: datetime | None = None
    """Started at this moment or later."""

    sub_agents: bool = False
    """Also runs that another run started."""


class ListedRun(BaseModel):
    """One run as its cell's index tells it."""

    model_config = ConfigDict(frozen=True)

    run: str
    """Its workflow id."""

    run_id: str
    agent: str
    status: str
    home: str | None
    """None for a run that Edgeward did not start."""

    places: tuple[str, ...]
    """Those that the plan chose. Empty where they are not known, too."""

    residency: str | None
    started_at: datetime
    ended_at: datetime | None
    took_ms: float | None
    """None while it goes on."""

    parent: str | None
    """Workflow id of the run that started it."""

    cell: str


@dataclass(frozen=True)
class RunsOfCell:
    """The newest runs of a cell."""

    runs: tuple[ListedRun, ...]
    all_seen: bool
    """False: more than ``LOOKED_AT`` match, so that some that are newer may be missing."""


async def list_runs(client: Client, cell: str, wanted: RunFilter, *, limit: int) -> RunsOfCell:
    """The newest runs of a cell that match.

    Agent and home are found where the search attributes are not registered, too: by workflow type and
    task queue.

    Args:
        client: Of the cell.
        cell: Its name.
        wanted: Which runs.
        limit: At most so many.

    Raises:
        SetupError: The cell cannot be asked for places, because the search attribute is not registered.
        RPCError: The cell does not answer.
    """
    try:
        found = await _asked(client, query_of(wanted, registered=True))
    except RPCError as error:
        if not _unregistered(error):
            raise
        if wanted.place is not None:
            raise SetupError(
                f"namespace {client.namespace} does not know {PLACES.name}, so its runs cannot be asked for "
                "their places; register it with `edgeward setup`, for runs that start from then on"
            ) from error
        found = await _asked(client, query_of(wanted, registered=False))
    runs = sorted((listed(one, cell) for one in found), key=lambda run: run.started_at, reverse=True)
    return RunsOfCell(tuple(runs[:limit]), all_seen=len(found) < LOOKED_AT)


async def _asked(client: Client, query: str) -> list[WorkflowExecution]:
    return [found async for found in client.list_workflows(query, limit=LOOKED_AT, page_size=LOOKED_AT)]


def _unregistered(error: RPCError) -> bool:
    return error.status is RPCStatusCode.INVALID_ARGUMENT and any(name in error.message for name in TYPES)


def query_of(wanted: RunFilter, *, registered: bool, now: datetime | None = None) -> str:
    """The list filter in Temporal's language.

    Args:
        wanted: Which runs.
        registered: Whether the namespace knows the search attributes of runs.
        now: For what goes on; the present if left out.
    """
    return " AND ".join(_conditions(wanted, registered, now or datetime.now(UTC)))


def _conditions(wanted: RunFilter, registered: bool, now: datetime) -> Iterator[str]:
    if not wanted.sub_agents:
        yield "ParentWorkflowId IS NULL"
    if wanted.agent is not None:
        # an ordinary run has no attribute, nor has one from before they were registered
        yield _either(registered, AGENT.name, wanted.agent, "WorkflowType", [wanted.agent])
    if wanted.home is not None:
        queues = [agents_queue(wanted.home, homebound=bound) for bound in (False, True)]
        yield _either(registered, HOME.name, wanted.home, "TaskQueue", queues)
    if wanted.place is not None:
        yield f"{PLACES.name} = {_quoted(wanted.place)}"
    if wanted.status is not None:
        yield f'ExecutionStatus = "{_temporals(wanted.status)}"'
    if wanted.slower_than is not None:
        longest_ms = round(wanted.slower_than / timedelta(milliseconds=1))
        # the server knows a duration of what has ended only
        started = _moment(now - wanted.slower_than)
        yield (
            f'(ExecutionDuration > "{longest_ms}ms" OR '
            f'(ExecutionStatus = "Running" AND StartTime < "{started}"))'
        )
    if wanted.since is not None:
        yield f'StartTime >= "{_moment(wanted.since)}"'


def _either(registered: bool, attribute: str, value: str, other: str, values: Iterable[str]) -> str:
    known = f"{other} IN ({', '.join(map(_quoted, values))})"
    return f"({attribute} = {_quoted(value)} OR {known})" if registered else known


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _temporals(status: RunStatus) -> str:
    return "".join(word.capitalize() for word in status.split("_"))


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def listed(found: WorkflowExecution, cell: str) -> ListedRun:
    """A run of the index, with what its attributes tell."""
    known = found.typed_search_attributes
    of_queue = region_of(found.task_queue) if kind_of(found.task_queue) is None else None
    return ListedRun(
        run=found.id,
        run_id=found.run_id,
        agent=known.get(AGENT) or found.workflow_type,
        status=(found.status.name if found.status else "unknown").lower(),
        home=known.get(HOME) or of_queue,
        places=tuple(sorted(known.get(PLACES) or ())),
        residency=known.get(RESIDENCY),
        started_at=found.start_time,
        ended_at=found.close_time,
        took_ms=(found.close_time - found.start_time) / timedelta(milliseconds=1)
        if found.close_time
        else None,
        parent=found.parent_id,
        cell=cell,
    )


def newest(cells: Iterable[RunsOfCell], limit: int) -> list[ListedRun]:
    """The newest runs of all cells together."""
    runs = [run for found in cells for run in found.runs]
    return sorted(runs, key=lambda run: run.started_at, reverse=True)[:limit]
