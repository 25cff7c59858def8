"""The critical path of a run: what its end waited for, found from the end backwards."""

from __future__ import annotations

from datetime import datetime

from orchestrator.trace.run_trace import RunTrace


def with_critical_path(trace: RunTrace) -> RunTrace:
    """Marks it among the run's own steps, pauses and sub-agents.

    Always what ended last before the point that was reached; what is open ends there.
    """
    reached = trace.ended_at or trace.read_at
    ends: list[tuple[datetime, datetime, str, int]] = []
    for index, step in enumerate(trace.steps):
        ends.append((step.ended_at or reached, step.began_at, "step", index))
    for index, pause in enumerate(trace.pauses):
        ends.append((pause.ended_at or reached, pause.began_at, "pause", index))
    for index, below in enumerate(trace.sub_agents):
        ends.append((below.resumed_at or reached, below.began_at, "agent", index))
    critical: set[tuple[str, int]] = set()
    for ended_at, began_at, kind, index in sorted(ends, reverse=True):
        if ended_at <= reached:
            critical.add((kind, index))
            reached = min(reached, began_at)
    on_path = {"on_critical_path": True}
    return trace.model_copy(
        update={
            "steps": tuple(
                step.model_copy(update=on_path) if ("step", index) in critical else step
                for index, step in enumerate(trace.steps)
            ),
            "pauses": tuple(
                pause.model_copy(update=on_path) if ("pause", index) in critical else pause
                for index, pause in enumerate(trace.pauses)
            ),
            "sub_agents": tuple(
                below.model_copy(update={"on_critical_path": ("agent", index) in critical})
                for index, below in enumerate(trace.sub_agents)
            ),
        }
    )
