"""What is lost, duplicated, wrong and outside is counted, and nothing that is not."""

import math
from collections.abc import Sequence

import pytest

from bench.chaos.agents import Errand, expected_answer
from bench.chaos.figures import Recovery, Struck, middle_and_tail, recoveries_s, tally
from bench.chaos.ledger import Effect, Ledger
from bench.chaos.load import RunRecord

PLACES = {"note": "frankfurt", "fetch": "paris", "ask": "frankfurt", "look": "paris"}


def run(order: int = 1, **changed: object) -> RunRecord:
    values: dict[str, object] = {
        "origin": "frankfurt",
        "residency": "EU",
        "submitted_s": 10.0,
        "accepted_s": 10.1,
        "ended_s": 12.0,
        "home": "frankfurt",
        "cell": "central",
        "places": PLACES,
        "answer": expected_answer(Errand, order),
        **changed,
    }
    return RunRecord(order=order, **values)


def effect(what: str, at_s: float, region: str = "frankfurt", *, order: int = 1, key: str = "") -> Effect:
    return Effect(order, what, key or f"{order}/{what}", region, 1, "r", booked=True, at_s=at_s)


WELL = (effect("note", 10.2), effect("fetch", 10.4, "paris"), effect("ask", 11.0))


def test_a_run_as_it_should_be_counts_as_nothing_else() -> None:
    counted = tally(Errand, [run()], WELL)
    assert (counted.runs, counted.lost, counted.failed, counted.duplicated, counted.missing) == (
        1,
        0,
        0,
        0,
        0,
    )
    assert (counted.wrong, counted.outside, counted.repeated, counted.unaccepted) == (0, 0, 0, 0)


def test_what_breaks_a_promise_is_counted() -> None:
    runs = [
        run(1, answer="another"),
        run(2, answer=None, ended_s=None),
        run(4, answer=None, error="broken"),
        run(5, accepted_s=None, answer=None, ended_s=None, refusals=["no", "no"]),
        run(7),
    ]
    effects = [
        *WELL,
        effect("note", 10.9, key="another key"),
        effect("fetch", 10.5, "ashburn", order=2),
        effect("note", 10.5, order=7),
        effect("ask", 10.7, order=7),
    ]
    counted = tally(Errand, runs, effects)
    assert (counted.runs, counted.unaccepted, counted.refused) == (4, 1, 2)
    assert (counted.lost, counted.failed) == (2, 1)
    assert (counted.wrong, counted.duplicated, counted.outside, counted.missing) == (1, 1, 1, 1)


def test_the_ledger_has_an_effect_once_for_a_key_and_tells_who_came_again() -> None:
    ledger = Ledger()
    first = ledger.book(1, "note", "k", "paris", 1, "r")
    assert ledger.book(1, "note", "k", "dublin", 2, "r") == first
    ledger.book(2, "note", "k2", "dublin", 1, "r")
    assert [(one.region, one.booked) for one in ledger.of(range(2))] == [("paris", True), ("dublin", False)]
    counted = tally(Errand, [run()], ledger.of(range(2)))
    assert (counted.duplicated, counted.repeated) == (0, 1)


def struck(measure: Recovery, **changed: object) -> Struck:
    values: dict[str, object] = {"healed_s": None, "regions": frozenset({"paris"}), **changed}
    return Struck(10.5, measure=measure, **values)


def of(struck: Struck, one: RunRecord, effects: Sequence[Effect]) -> list[float]:
    return [round(value, 6) for value in recoveries_s(struck, [one], effects, healthy_p50_s=1.5)]


def test_a_step_recovers_when_it_is_done_elsewhere() -> None:
    elsewhere = [effect("note", 10.2), effect("fetch", 10.4, "paris"), effect("fetch", 12.5, "dublin")]
    later = run(ended_s=14.0)
    assert of(struck(Recovery.STEP), later, elsewhere) == [2.0]
    # the dead region does not speak; if it does after it has healed, that counts
    again = [effect("note", 10.2), effect("fetch", 12.5, "paris")]
    assert of(struck(Recovery.STEP), run(ended_s=None, answer=None), again) == [math.inf]
    assert of(struck(Recovery.STEP, healed_s=12.0), later, again) == [2.0]
    assert of(struck(Recovery.STEP, alive=True), later, again) == [2.0]
    # what was mended after the measurement did not recover by itself
    assert of(struck(Recovery.STEP, until_s=12.0), run(ended_s=None, answer=None), elsewhere) == [math.inf]


def test_a_step_that_was_done_or_not_due_or_elsewhere_is_not_counted() -> None:
    assert of(struck(Recovery.STEP), run(), [effect("note", 10.2), effect("fetch", 10.3, "paris")]) == []
    done = [effect("note", 10.2), effect("fetch", 10.3, "paris"), effect("ask", 10.45)]
    assert of(struck(Recovery.STEP), run(order=2), done) == []
    assert of(struck(Recovery.STEP), run(ended_s=None), []) == []
    moved = run(places={**PLACES, "fetch": "dublin", "look": "dublin"})
    assert of(struck(Recovery.STEP), moved, [effect("note", 10.2)]) == []


def test_a_run_recovers_with_its_next_sign_of_life() -> None:
    home = struck(Recovery.RUN, regions=frozenset({"frankfurt"}))
    assert of(home, run(), [effect("note", 10.2), effect("ask", 11.0)]) == [0.5]
    assert of(home, run(), [effect("note", 10.2)]) == [1.5]
    assert of(home, run(ended_s=None, answer=None), []) == [math.inf]
    assert of(home, run(ended_s=10.4), []) == []
    assert of(home, run(home="dublin"), []) == []
    cell = struck(Recovery.RUN, regions=frozenset(), cells=frozenset({"central"}))
    assert of(cell, run(), []) == [1.5]


def test_extra_time_is_beyond_a_healthy_run() -> None:
    assert of(struck(Recovery.EXTRA), run(ended_s=14.0), []) == [2.5]
    assert of(struck(Recovery.EXTRA, healed_s=11.0), run(submitted_s=11.5, ended_s=19.0), []) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (None, None)), ([1.0, 2.0, 3.0], (2.0, 3.0)), ([1.0, 2.0, math.inf], (2.0, None))],
)
def test_what_never_recovers_has_no_percentile(
    values: list[float], expected: tuple[float | None, float | None]
) -> None:
    assert middle_and_tail(values) == expected
