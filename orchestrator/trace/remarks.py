"""What a history does not tell, or tells wrongly: said once each, however many steps it is true of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from orchestrator.trace.run_trace import StepTrace
from orchestrator.trace.timeline import Timeline

TOLERANCE_MS = 5.0
"""Clocks that differ by less are not worth a word: times of history are whole milliseconds in places."""


def remarks(timeline: Timeline, steps: Sequence[StepTrace]) -> Iterator[str]:
    """Everything that a reader of the trace has to know of it.

    Args:
        timeline: The run's history.
        steps: The steps that were read from it.
    """
    if timeline.unreadable_plan:
        yield f"{timeline.unreadable_plan}: no receipts, no predictions"
    elif timeline.plan is None:
        yield "the run was started without a plan: no receipts, no predictions"
    if timeline.unreadable_timings:
        yield (
            f"what the worker said beside {_count(timeline.unreadable_timings, 'result')} cannot be read "
            "(damaged, or of another version): all between hand-over and report counts as execution there"
        )
    if timeline.unreadable_steps:
        yield f"{_count(timeline.unreadable_steps, 'inline step')} cannot be read and are left out"
    if timeline.foreign_steps:
        yield (
            f"{_count(timeline.foreign_steps, 'local activity', 'local activities')} of another SDK are left "
            "out: their markers tell no times"
        )
    yield from _skews(steps)
    yield from _misplaced(steps)
    open_steps = [step.step for step in steps if step.ended_at is None]
    if timeline.ended_at is not None and open_steps:
        yield f"open when the run ended: {_names(open_steps)}"


def _skews(steps: Iterable[StepTrace]) -> Iterator[str]:
    found: dict[str, list[float]] = {}
    for step in steps:
        skew_ms = step.parts.clock_skew_ms if step.parts else None
        if skew_ms is not None and abs(skew_ms) > TOLERANCE_MS:
            found.setdefault(step.ran_in or step.place or "an unknown place", []).append(skew_ms)
    for region, skews_ms in found.items():
        most_ms = max(skews_ms, key=abs)
        yield (
            f"the clock of the worker in {region} is off by {most_ms:+,.0f} ms or more "
            f"({_count(len(skews_ms), 'step')}); the server's times are used"
        )


def _misplaced(steps: Iterable[StepTrace]) -> Iterator[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        if step.ran_in is not None and step.place is not None and step.ran_in != step.place:
            found.setdefault((step.place, step.ran_in), []).append(step.step)
    for (place, ran_in), names in found.items():
        yield f"placed in {place}, and ran in {ran_in}: {_names(names)}"


def _names(names: Sequence[str]) -> str:
    """Each name once, with how often it is there."""
    return ", ".join(
        name if names.count(name) == 1 else f"{name} ({names.count(name)} times)"
        for name in dict.fromkeys(names)
    )


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"
