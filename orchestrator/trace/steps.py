"""The steps of a run in short: place, dispatch, predicted and actual time."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, computed_field
from temporalio.client import Client

from orchestrator.placement import Dispatch
from orchestrator.trace.timeline import Timeline


class StepRecord(BaseModel):
    """One step as history tells it. Times are the server's."""

    model_config = ConfigDict(frozen=True)

    agent: str
    """The workflow whose step it is: the run's agent or a sub-agent."""

    step: str
    place: str | None
    """None where neither plan nor queue name a region."""

    dispatch: Dispatch
    predicted_ms: float | None
    scheduled_at: datetime
    ended_at: datetime | None
    """None while it is going on."""

    attempts: int
    error: str | None = None
    """Type and message of the failure it ended with."""

    @computed_field
    @property
    def actual_ms(self) -> float | None:
        """Wall time from its scheduling to its end, retries included."""
        if self.ended_at is None:
            return None
        return (self.ended_at - self.scheduled_at) / timedelta(milliseconds=1)


async def read_steps(client: Client, workflow_id: str, run_id: str | None = None) -> list[StepRecord]:
    """The steps of a run and of its sub-agents, in the order in which they were scheduled.

    Args:
        client: Of the run's cell.
        workflow_id: Of the run.
        run_id: Temporal's run id; the latest run of the workflow id if left out.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    timeline = Timeline.of([event async for event in handle.fetch_history_events()])
    records = _records(timeline)
    for child in timeline.sub_agents():
        if child.run_id is not None:
            records += await read_steps(client, child.workflow_id, child.run_id)
    return sorted(records, key=lambda record: record.scheduled_at)


def _records(timeline: Timeline) -> list[StepRecord]:
    return [
        StepRecord(
            agent=timeline.agent,
            step=step.name,
            place=step.place,
            dispatch=step.dispatch,
            predicted_ms=step.predicted_ms,
            scheduled_at=step.scheduled_at,
            ended_at=step.closed_at,
            attempts=step.attempts,
            error=step.error,
        )
        for step in timeline.steps()
    ]
