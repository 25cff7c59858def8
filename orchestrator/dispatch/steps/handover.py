"""How an inline step learns its assignment: handed over in memory, from its run to its worker.

An inline step runs in the process that runs its workflow, so its assignment needs no header. In one
it cost 3 % of a step (bench ``overhead``): Temporal's core copies a header several times on the way.

Workflows write here and activities read, in different threads. What a run has handed over goes
when the run leaves this process; one that comes back hands it over again while it replays.
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakValueDictionary

from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from orchestrator.dispatch.headers import Assignment, assignment_of


class InlineSteps:
    """The inline steps of one run: their assignments by activity id."""

    def __init__(self, run_id: str) -> None:
        self._assignments: dict[str, Assignment] = {}
        _runs[run_id] = self

    def hand_over(self, activity_id: str, assignment: Assignment) -> None:
        """For the step that is about to be scheduled under this id."""
        self._assignments[activity_id] = assignment

    def forget(self, activity_id: str) -> None:
        """What was handed over."""
        self._assignments.pop(activity_id, None)

    def of(self, activity_id: str) -> Assignment | None:
        """What was handed over."""
        return self._assignments.get(activity_id)


_runs: WeakValueDictionary[str, InlineSteps] = WeakValueDictionary()
"""Those that run in this process, by Temporal's run id."""


def assignment_in(headers: Mapping[str, Payload], info: activity.Info) -> Assignment | None:
    """The assignment of the activity that is about to run; None where its run has no plan.

    Raises:
        ApplicationError: The run has a plan and the step no assignment: its residency cannot be
            checked.
        ConfigurationError: The header cannot be read.
    """
    if not info.is_local:
        return assignment_of(headers)
    run = _runs.get(info.workflow_run_id or "")
    if run is None:
        return None
    assignment = run.of(info.activity_id)
    if assignment is None:
        raise ApplicationError(
            f"inline step {info.activity_type} of run {info.workflow_run_id} has no assignment, so its "
            "residency cannot be checked; schedule it from the workflow's own code",
            {"rule": "residency"},
            type="PlacementError",
            non_retryable=True,
        )
    return assignment


def forget_assignment(info: activity.Info) -> None:
    """Of an inline step that has its result. One that failed keeps it: it may be tried again."""
    run = _runs.get(info.workflow_run_id or "")
    if run is not None:
        run.forget(info.activity_id)
