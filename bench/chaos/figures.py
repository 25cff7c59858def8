"""What became of the runs: counted from what their users saw and from what the ledger booked. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.chaos.agents import SEQUENCE, effects_expected, expected_answer
from bench.chaos.ledger import Effect
from bench.chaos.load import RunRecord
from bench.chaos.places import INSIDE
from bench.report import percentile


class Recovery(StrEnum):
    """From when to when a scenario's recovery is measured, for each run that the fault hits."""

    STEP = "step"
    """From the fault, or from when the step was due if that is later, until the ledger hears from the
    step in a place that lives. Counts steps that the plan had put where the fault is. A step is due when
    the ledger heard of the one before it: so its own body counts as well."""

    RUN = "run"
    """From the fault, or from the start if that is later, until the next sign of the run: an effect or
    its answer. Counts runs whose home, or cell, is where the fault is."""

    EXTRA = "extra"
    """What the run took beyond the median of a healthy fleet. Counts runs that were under way during
    the fault and touch the place where it is."""


@dataclass(frozen=True)
class Struck:
    """What a fault hit, and when. Times are on the monotonic clock."""

    at_s: float
    healed_s: float | None
    regions: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    measure: Recovery = Recovery.EXTRA
    until_s: float = math.inf
    """When the measurement ended: what was mended afterwards did not recover by itself."""

    alive: bool = False
    """Whether the regions go on working, so that a step may be done there as well."""

    @property
    def over_s(self) -> float:
        return math.inf if self.healed_s is None else self.healed_s

    def touches(self, run: RunRecord) -> bool:
        return bool(self.cells & {run.cell} or self.regions & {run.home, *run.places.values()})


@dataclass(frozen=True)
class Tally:
    """What is promised, counted. All of them shall be zero, but for ``runs`` and what is only told."""

    runs: int
    """Accepted ones."""

    lost: int
    """Accepted, and without an answer at their deadline; failed ones are among them."""

    failed: int
    duplicated: int
    """Effects that were booked more than once: under different keys."""

    missing: int
    """Effects that an answered run should have had, and the ledger never heard of."""

    wrong: int
    """Answers that are not the expected one."""

    outside: int
    """Effects asked for by a region in which the run's data may not be."""

    repeated: int
    """Only told: effects that were asked for again under the same key, and not had again."""

    refused: int
    """Only told: starts that were refused, or got no response, and were tried again."""

    caller_errors: int
    """Only told: errors that a user got instead of an answer, before the answer."""

    unaccepted: int
    """Only told: runs that were never accepted, however often their user tried."""


def tally(agent: type, runs: Sequence[RunRecord], effects: Sequence[Effect]) -> Tally:
    """Counts everything once."""
    accepted = [run for run in runs if run.accepted_s is not None]
    answered = [run for run in accepted if run.answer is not None]
    asked = Counter((effect.order, effect.what) for effect in effects)
    booked = Counter((effect.order, effect.what) for effect in effects if effect.booked)
    residency = {run.order: run.residency for run in runs}
    return Tally(
        runs=len(accepted),
        lost=len(accepted) - len(answered),
        failed=sum(run.error is not None for run in accepted),
        duplicated=sum(count - 1 for count in booked.values()),
        missing=sum(
            (run.order, what) not in booked for run in answered for what in effects_expected(agent, run.order)
        ),
        wrong=sum(run.answer != expected_answer(agent, run.order) for run in answered),
        outside=sum(not _inside(effect.region, residency.get(effect.order)) for effect in effects),
        repeated=sum(asked.values()) - sum(booked.values()),
        refused=sum(len(run.refusals) for run in runs),
        caller_errors=sum(len(run.caller_errors) for run in runs),
        unaccepted=len(runs) - len(accepted),
    )


def _inside(region: str, residency: str | None) -> bool:
    return residency is None or region in INSIDE[residency]


def recoveries_s(
    struck: Struck, runs: Iterable[RunRecord], effects: Iterable[Effect], healthy_p50_s: float
) -> list[float]:
    """Of each step or run that the fault hit, in seconds; infinite where it never recovered."""
    by_order: dict[int, list[Effect]] = {}
    for effect in effects:
        if effect.at_s <= struck.until_s:
            by_order.setdefault(effect.order, []).append(effect)
    measure = {Recovery.STEP: _of_steps, Recovery.RUN: _of_run, Recovery.EXTRA: _extra}[struck.measure]
    return [
        value
        for run in runs
        if run.accepted_s is not None
        for value in measure(struck, run, by_order.get(run.order, []), healthy_p50_s)
    ]


def _of_steps(
    struck: Struck, run: RunRecord, effects: Sequence[Effect], healthy_p50_s: float
) -> Iterator[float]:
    first = _first_of_each(effects)
    due = run.accepted_s
    for number, what in enumerate(SEQUENCE):
        if what not in run.places:
            continue
        later = [first[name] for name in SEQUENCE[number + 1 :] if name in first]
        done_s = min([*later, *([run.ended_s] if run.ended_s is not None else [])], default=math.inf)
        hit = run.places[what] in struck.regions and due is not None
        if hit and done_s > struck.at_s and due < struck.over_s:
            again = [
                effect.at_s
                for effect in effects
                if effect.what == what
                and effect.at_s > struck.at_s
                and (struck.alive or effect.region not in struck.regions or effect.at_s > struck.over_s)
            ]
            if again or math.isinf(done_s):
                yield min(again, default=math.inf) - max(due, struck.at_s)
        due = first.get(what)


def _of_run(
    struck: Struck, run: RunRecord, effects: Sequence[Effect], healthy_p50_s: float
) -> Iterator[float]:
    assert run.accepted_s is not None
    ended_s = math.inf if run.ended_s is None else run.ended_s
    hit = run.home in struck.regions or run.cell in struck.cells
    if not hit or ended_s <= struck.at_s or run.accepted_s >= struck.over_s:
        return
    since = max(run.accepted_s, struck.at_s)
    signs = [effect.at_s for effect in effects if effect.at_s > since]
    yield min([*signs, ended_s]) - since


def _extra(
    struck: Struck, run: RunRecord, effects: Sequence[Effect], healthy_p50_s: float
) -> Iterator[float]:
    ended_s = math.inf if run.ended_s is None else run.ended_s
    if not struck.touches(run) or ended_s <= struck.at_s or run.submitted_s >= struck.over_s:
        return
    yield max(0.0, ended_s - run.submitted_s - healthy_p50_s)


def _first_of_each(effects: Iterable[Effect]) -> Mapping[str, float]:
    first: dict[str, float] = {}
    for effect in effects:
        first.setdefault(effect.what, effect.at_s)
    return first


def finite(value: float, digits: int = 2) -> float | None:
    """For JSON, which has no infinity: None where it never ends."""
    return None if math.isinf(value) else round(value, digits)


def middle_and_tail(values: Sequence[float]) -> tuple[float | None, float | None]:
    """p50 and p99; None without values, or where that one never recovered."""
    if not values:
        return None, None
    return finite(percentile(values, 50)), finite(percentile(values, 99))
