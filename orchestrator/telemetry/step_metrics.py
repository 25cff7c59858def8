"""The metrics of placement: steps by part, place and dispatch, predictions, placements, exclusions.

Attributes are names that an application declares and regions of its topology; no run and no user is
among them, so that their number stays small.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from opentelemetry import context as contexts
from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider

from orchestrator.telemetry import names

_DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

StepAttributes = Mapping[str, str]
"""Of one step in one place: step, place, dispatch."""

_meter = metrics.get_meter(names.INSTRUMENTATION_SCOPE)
_in_flight: Counter[tuple[str, str]] = Counter()
_placed: Counter[tuple[str, str, str]] = Counter()
_counting = threading.Lock()

_Recorded = tuple[metrics.Histogram, float, StepAttributes, Context]
_pending: deque[_Recorded] = deque()
"""What is to be recorded: done for many steps at once, or when an export asks. Alone it takes longer than all
else that a step's telemetry does."""

MANY_PENDING, MOST_PENDING = 64, 256
"""From so many on they are recorded when nobody waits, and at last at once."""

_step_duration = _meter.create_histogram(
    names.STEP_DURATION,
    unit="s",
    description="From the call of a step to its end; of an inline step its body.",
    explicit_bucket_boundaries_advisory=_DURATIONS_S,
)
_part_duration = _meter.create_histogram(
    names.STEP_PART_DURATION,
    unit="s",
    description="Parts of a step's time, as the worker of its place sees them.",
    explicit_bucket_boundaries_advisory=_DURATIONS_S,
)
_prediction_error = _meter.create_histogram(
    names.STEP_PREDICTION_ERROR,
    unit="s",
    description="How far what the plan predicted for a step is from what it took, and which way.",
    explicit_bucket_boundaries_advisory=_DURATIONS_S,
)
_exclusions = _meter.create_counter(
    names.EXCLUSIONS, unit="{region}", description="Regions that a rule excluded from a step, by rule."
)
_agent_duration = _meter.create_histogram(
    names.INVOKE_AGENT_DURATION,
    unit="s",
    description="From the start of an agent's run to its end.",
    explicit_bucket_boundaries_advisory=(*_DURATIONS_S, 300.0, 1800.0, 7200.0),
)


def _record(histogram: metrics.Histogram, seconds: float, attributes: StepAttributes) -> None:
    _pending.append((histogram, seconds, attributes, contexts.get_current()))
    if len(_pending) >= MOST_PENDING:
        _record_pending()


def record_many() -> None:
    """Records what is pending, if that is much. For a moment in which no run waits."""
    if len(_pending) >= MANY_PENDING:
        _record_pending()


def _record_pending() -> None:
    while _pending:
        try:
            histogram, seconds, attributes, context = _pending.popleft()
        except IndexError:
            return  # another thread took it
        histogram.record(seconds, attributes, context)


def _observe_placements(_: CallbackOptions) -> Iterable[Observation]:
    _record_pending()  # before an export reads what was recorded
    with _counting:
        counts = list(_placed.items())
    for (step, place, dispatch), count in counts:
        said = {names.STEP_NAME: step, names.PLACE: place, names.DISPATCH: dispatch}
        yield Observation(count, said)


def _observe_running(_: CallbackOptions) -> Iterable[Observation]:
    with _counting:
        counts = list(_in_flight.items())
    for (place, dispatch), count in counts:
        yield Observation(count, {names.PLACE: place, names.DISPATCH: dispatch})


# asked for at each export: one that is added to takes twenty times as long a step
_meter.create_observable_counter(
    names.PLACEMENTS,
    [_observe_placements],
    unit="{step}",
    description="Steps that ended, by the place they had.",
)
_meter.create_observable_up_down_counter(
    names.STEPS_IN_FLIGHT, [_observe_running], unit="{step}", description="Steps that run at this moment."
)


def measuring() -> bool:
    """Whether a meter provider takes what is recorded."""
    return isinstance(metrics.get_meter_provider(), MeterProvider)


def count_running(place: str, dispatch: str, change: int) -> None:
    """A step begins (1) or ends (-1) in this process."""
    with _counting:
        _in_flight[place, dispatch] += change


def record_step(seconds: float, predicted_s: float | None, attributes: StepAttributes) -> None:
    """A step has ended, well or not.

    Args:
        seconds: From its call to its end.
        predicted_s: What the plan had predicted.
        attributes: Step, place, dispatch, and ``error.type`` if it failed.
    """
    _record(_step_duration, seconds, attributes)
    with _counting:
        _placed[attributes[names.STEP_NAME], attributes[names.PLACE], attributes[names.DISPATCH]] += 1
    if predicted_s is not None and names.ERROR_TYPE not in attributes:
        way = names.PREDICTED_TOO_MUCH if predicted_s >= seconds else names.PREDICTED_TOO_LITTLE
        _record(_prediction_error, abs(predicted_s - seconds), {**attributes, names.PREDICTED: way})


def record_part(part: str, seconds: float, attributes: StepAttributes) -> None:
    """A part of a step's time."""
    _record(_part_duration, seconds, {**attributes, names.STEP_PART: part})


def record_exclusions(regions_by_rule: Mapping[str, int]) -> None:
    """Regions that were no candidates in a run's plan."""
    for rule, regions in regions_by_rule.items():
        _exclusions.add(regions, {names.EXCLUSION_RULE: rule})


def record_run(seconds: float, attributes: Mapping[str, str]) -> None:
    """An agent's run has ended, well or not."""
    _record(_agent_duration, seconds, attributes)
