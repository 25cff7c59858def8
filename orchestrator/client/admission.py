"""Whether a run is started at all: one that would wait too long in queues is refused before it is sent.

How fast the runs of this client end says it best (``open_runs``). While too few of them are open to tell,
the fleet's snapshot does, by the queues that the plan goes through: it knows of other clients, some seconds
late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from temporalio.client import WorkflowFailureError

from orchestrator.client.open_runs import LATEST, SOONEST, OpenRuns, Ticket
from orchestrator.errors import AdmissionRefusedError
from orchestrator.placement import AgentPlan, Candidate, Plan, QueueReading, Snapshot, StepPlan

ResultT = TypeVar("ResultT")

MOST_KEPT = 4096
"""So many homes and agents are remembered."""


class Admitted:
    """A run that may start, until it has ended."""

    def __init__(self, runs: OpenRuns | None = None) -> None:
        self._runs = runs
        self._ticket: Ticket | None = None if runs is None else runs.enter()

    def wait(self) -> None:
        """Somebody waits for its answer."""
        if self._runs is not None and self._ticket is not None:
            self._runs.wait(self._ticket)

    def leave(self, error: BaseException | None, *, cancelled: bool = False) -> None:
        """It is over, or nobody waits for it any more.

        Args:
            error: What its start or answer failed with, if it did.
            cancelled: Whether its caller went away.
        """
        if self._runs is None or self._ticket is None:
            return
        ended = not cancelled and (error is None or isinstance(error, WorkflowFailureError))
        self._runs.leave(self._ticket, ended=ended, answered=error is None)
        self._ticket = None


class Admission:
    """Of one client.

    Args:
        snapshot: What is known of the fleet.
        enabled: Whether anything is refused.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        *,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshot = snapshot
        self._enabled = enabled
        self._clock = clock
        self._runs: dict[tuple[str, str], OpenRuns] = {}

    def admit(self, plan: Plan, longest_wait: timedelta) -> Admitted:
        """Takes one more run.

        Args:
            plan: Of the run.
            longest_wait: That it may spend in queues.

        Raises:
            AdmissionRefusedError: It would wait longer; says when to try again.
        """
        if not self._enabled:
            return Admitted()
        runs = self._runs_of(plan)
        full = runs.refusal(longest_wait)
        if not runs.judged:
            refuse_long_queues(plan, self._snapshot(), longest_wait, runs.open)
        if full is not None:
            raise AdmissionRefusedError(
                f"region {plan.home} is full: {full.open} runs of {plan.root.agent} wait for their answers, "
                f"and {full.ended_per_s:.3g} end in a second",
                region=plan.home,
                retry_after=full.retry_after,
            )
        return Admitted(runs)

    def _runs_of(self, plan: Plan) -> OpenRuns:
        key = (plan.home, plan.root.agent)
        runs = self._runs.get(key)
        if runs is None:
            if len(self._runs) >= MOST_KEPT:
                del self._runs[next(iter(self._runs))]
            runs = self._runs[key] = OpenRuns(self._clock)
        return runs


def refuse_long_queues(plan: Plan, snapshot: Snapshot, longest_wait: timedelta, open_runs: int = 0) -> None:
    """Refuses a run whose queued steps would wait longer than that, all together.

    Args:
        plan: Of the run.
        snapshot: What is known of the fleet.
        longest_wait: That is accepted.
        open_runs: Of this client, such as this one: the snapshot does not know of the latest.

    Raises:
        AdmissionRefusedError: Names the region whose queue is the longest, and when to try again.
    """
    waits = list(_waits(plan.root, 1.0, snapshot, open_runs / max(1.0, _working_ms(plan.root, 1.0))))
    total = timedelta(milliseconds=sum(wait_ms for wait_ms, _, _ in waits))
    if total <= longest_wait:
        return
    _, step, place = max(waits, key=_first)
    queue = snapshot.region(place.region).queues.get(step.kind, QueueReading())
    slots = f"{queue.slots} slots" if queue.slots is not None else "its slots"
    raise AdmissionRefusedError(
        f"region {place.region} is full: {queue.backlog} steps like {step.step} wait for {slots}",
        region=place.region,
        retry_after=min(max(total - longest_wait, SOONEST), LATEST),
    )


def _own_wait_ms(snapshot: Snapshot, step: StepPlan, open_runs: float) -> float:
    """How long a step waits for this client's own runs, so many of which are in it."""
    queue = snapshot.region(step.chosen.region).queues.get(step.kind)
    if queue is None or not queue.slots:
        return 0.0
    return max(0.0, open_runs - queue.slots) / queue.slots * step.chosen.cost.run_ms


def _working_ms(agent: AgentPlan, runs: float) -> float:
    """What all steps of an agent and of those below it take, without waiting."""
    own = sum(
        step.expected_calls * step.chosen.cost.run_ms for step in agent.steps.values() if step.candidates
    )
    return runs * own + sum(
        _working_ms(below, runs * below.expected_calls) for below in agent.handoffs.values()
    )


def _waits(
    agent: AgentPlan, runs: float, snapshot: Snapshot, open_per_ms: float
) -> Iterator[tuple[float, StepPlan, Candidate]]:
    """Wait in all calls of each queued step, in milliseconds: of the agent and all below it."""
    for step in agent.steps.values():
        if step.candidates and step.expected_calls and step.chosen.dispatch == "queue":
            calls = runs * step.expected_calls
            # runs are in a step for its share of the work
            own_ms = _own_wait_ms(snapshot, step, open_per_ms * calls * step.chosen.cost.run_ms)
            yield calls * max(step.chosen.cost.wait_ms, own_ms), step, step.chosen
    for below in agent.handoffs.values():
        yield from _waits(below, runs * below.expected_calls, snapshot, open_per_ms)


def _first(wait: tuple[float, StepPlan, Candidate]) -> float:
    return wait[0]
