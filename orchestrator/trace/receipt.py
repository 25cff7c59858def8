"""What a step took against what its receipt promised."""

from __future__ import annotations

from orchestrator.placement import StepPlan
from orchestrator.trace.run_trace import StepTrace


def best_other_ms(planned: StepPlan, place: str | None) -> float | None:
    """What the best candidate beside a place was predicted to take; None where there was none."""
    others = (candidate for candidate in planned.candidates if candidate.region != place)
    return min((other.cost.predicted_ms for other in others), default=None)


def regret_ms(planned: StepPlan, step: StepTrace) -> float | None:
    """What a step took beyond the best other place as predicted; negative where it was the better choice.

    None while the step goes on, and where there was no other place.
    """
    best_ms = best_other_ms(planned, step.place)
    return None if step.wall_ms is None or best_ms is None else step.wall_ms - best_ms
