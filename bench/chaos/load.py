"""Users: they start runs at a steady rate, whatever happens, and each waits for the one answer."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from bench.chaos.agents import Errand, Question
from bench.chaos.places import ASHBURN, HOME
from orchestrator import EdgeClient, EdgeRun
from orchestrator.errors import EdgewardError
from orchestrator.placement import AgentPlan, Plan

START_WITHIN = timedelta(seconds=5)
"""How long a user waits for a run to be accepted before trying again, under the same id."""

AGAIN_AFTER = timedelta(milliseconds=500)
"""Pause of a user whose run was refused, or whose answer did not come through."""

USERS: Sequence[tuple[str, str | None]] = (
    (HOME, "EU"),
    (HOME, "EU"),
    (HOME, None),
    (HOME, "EU"),
    (ASHBURN, None),
    (HOME, "EU"),
)
"""Origin and residency: four of six runs are bound to the EU."""


@dataclass
class RunRecord:
    """One run, as its user saw it. Times are on the monotonic clock."""

    order: int
    origin: str
    residency: str | None
    submitted_s: float
    home: str | None = None
    cell: str | None = None
    places: Mapping[str, str] = field(default_factory=dict[str, str])
    """Effect to the region that the plan chose for its step."""

    accepted_s: float | None = None
    ended_s: float | None = None
    answer: str | None = None
    error: str | None = None
    """Why the run failed, if it did."""

    refusals: list[str] = field(default_factory=list[str])
    """Starts that were refused or not answered; the user tried again."""

    refused_after_s: list[float] = field(default_factory=list[float])
    caller_errors: list[str] = field(default_factory=list[str])
    """Errors instead of an answer, of a run that had been accepted and had not failed."""

    @property
    def took_s(self) -> float | None:
        return None if self.ended_s is None else self.ended_s - self.submitted_s


class Load:
    """Runs at a steady rate.

    Args:
        client: What users start their runs with.
        agent: Which one they run.
        orders: Numbers of the runs, never used before.
        per_s: How many start in a second.
        deadline: How long a user waits from the start on; then the run counts as lost.
        retries: Whether a user whose run was refused tries again.
        users: Where they are and where their data may be, in turn.
        rush: Runs, by their number from 0, that all start with the first of them.
    """

    def __init__(
        self,
        client: EdgeClient,
        agent: type[Errand] | type[Question],
        orders: range,
        *,
        per_s: float,
        deadline: timedelta,
        retries: bool = True,
        users: Sequence[tuple[str, str | None]] = USERS,
        rush: range = range(0),
    ) -> None:
        self.runs: list[RunRecord] = []
        self.agent = agent
        self._client = client
        self._orders = orders
        self._per_s = per_s
        self._deadline = deadline
        self._retries = retries
        self._users = users
        self._rush = rush
        self._moved = asyncio.Condition()

    async def drive(self) -> None:
        """Start all of them and wait until each has its answer, or its deadline has passed."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, order in enumerate(self._orders):
                passed = min(max(number - self._rush.start, 0), len(self._rush))
                await asyncio.sleep(began + (number - passed) / self._per_s - time.monotonic())
                origin, residency = self._users[order % len(self._users)]
                record = RunRecord(order, origin, residency, submitted_s=time.monotonic())
                self.runs.append(record)
                group.create_task(self._run(record))
                await self._tell()

    async def until_submitted(self, count: int) -> None:
        """Wait until so many runs have been started."""
        async with self._moved:
            await self._moved.wait_for(lambda: len(self.runs) >= count)

    async def until_accepted(self, count: int, within: timedelta) -> None:
        """Wait until so many runs have been accepted, and not longer than this."""
        async with asyncio.timeout(within.total_seconds()), self._moved:
            await self._moved.wait_for(lambda: sum(run.accepted_s is not None for run in self.runs) >= count)

    async def _tell(self) -> None:
        """Whoever waits looks again."""
        async with self._moved:
            self._moved.notify_all()

    @property
    def ended(self) -> int:
        """How many have their answer, or have failed."""
        return sum(run.ended_s is not None for run in self.runs)

    async def _run(self, record: RunRecord) -> None:
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                started = await self._accepted(record)
                if started is not None:
                    await self._answered(record, started)
        except TimeoutError:
            pass  # lost, or never accepted

    async def _accepted(self, record: RunRecord) -> EdgeRun[str] | WorkflowHandle[Any, Any] | None:
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(START_WITHIN.total_seconds()):
                    run = await self._client.start(
                        self.agent.run,
                        record.order,
                        origin=record.origin,
                        residency=record.residency,
                        id=run_id(self.agent, record.order),
                    )
                    planned(record, run.plan)
                    record.accepted_s = time.monotonic()
                    await self._tell()
                    return run
            except WorkflowAlreadyStartedError:
                # an earlier try, whose response was lost, had been accepted
                record.accepted_s = record.accepted_s or time.monotonic()
                return await self._found(record)
            except (RPCError, EdgewardError, TimeoutError) as error:
                record.refusals.append(_in_short(error))
                record.refused_after_s.append(time.monotonic() - began)
                if not self._retries:
                    return None
                await asyncio.sleep(AGAIN_AFTER.total_seconds())

    async def _answered(self, record: RunRecord, started: EdgeRun[str] | WorkflowHandle[Any, Any]) -> None:
        while True:
            try:
                record.answer = await started.result()
                break
            except WorkflowFailureError as error:
                record.error = _innermost(error)
                break
            except (RPCError, EdgewardError) as error:
                record.caller_errors.append(_in_short(error))
                await asyncio.sleep(AGAIN_AFTER.total_seconds())
                started = await self._found(record)
        record.ended_s = time.monotonic()

    async def _found(self, record: RunRecord) -> WorkflowHandle[Any, Any]:
        """The run, in whichever cell has it."""
        while True:
            for cell in self._client.topology.cells:
                handle = self._client.cell(cell.name).get_workflow_handle_for(
                    self.agent.run, run_id(self.agent, record.order)
                )
                try:
                    async with asyncio.timeout(START_WITHIN.total_seconds()):
                        await handle.describe()
                except (RPCError, RuntimeError, TimeoutError):
                    continue
                if record.cell is None:
                    origin, residency = record.origin, record.residency
                    planned(record, self._client.plan(self.agent, origin=origin, residency=residency))
                return handle
            await asyncio.sleep(AGAIN_AFTER.total_seconds())


def run_id(agent: type, order: int) -> str:
    """The workflow id of a run."""
    return f"{agent.__name__.lower()}-{order}"


def planned(record: RunRecord, plan: Plan) -> None:
    """Note where the plan wants the run."""
    record.home, record.cell = plan.home, plan.cell
    places = _places(plan.root)
    clerk = plan.root.handoffs.get("Clerk")
    if clerk is not None:
        places["look"] = clerk.home
    record.places = places


def _places(agent: AgentPlan) -> dict[str, str]:
    return {name: step.chosen.region for name, step in agent.steps.items() if step.candidates}


def _in_short(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text}"[:160].rstrip(": ")


def _innermost(error: BaseException) -> str:
    while True:
        cause: BaseException | None = getattr(error, "cause", None) or error.__cause__
        if cause is None:
            return _in_short(error)
        error = cause
