"""Overload: five times as many runs start as the models can answer, and nobody tries again.

Capacity is measured first, on the same fleet: as many answers a second as its models give to as many users
as have patience. It is small on purpose (two slots a region), so that what is overloaded is the models,
and not the machine that runs all of this.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bench.chaos import doubles
from bench.chaos.agents import Question
from bench.chaos.conduct import fresh_orders, progress
from bench.chaos.figures import middle_and_tail, tally
from bench.chaos.fleet import Fleet, Shape
from bench.chaos.ledger import effects_of
from bench.chaos.load import Load
from bench.chaos.places import COUNTRY, HOME
from bench.chaos.scenarios import OVERLOAD, Options

SHAPE = Shape(slots=2)

TIMES = 5

SLOWED = 1.5
"""A call then takes half a second: two regions with two slots give some eight answers a second."""

DEADLINE = timedelta(seconds=10)
"""An answer that comes later is of no use to its user: it is no goodput."""

LASTS = timedelta(seconds=20)

USERS = ((HOME, "EU"),)

WARM_UP_S, LEAST_MEASURED_S = 5.0, 8.0

AT_ONCE = 12
"""Users who wait while capacity is measured: enough for all slots."""


@dataclass(frozen=True)
class Overloaded:
    """What came of it."""

    row: dict[str, Any]
    goodput_percent: float
    refused_p99_s: float | None
    hung: int


async def overload(fleet: Fleet, options: Options) -> Overloaded:
    """Measures capacity, then what is left of it under five times as much."""
    for region in COUNTRY:
        await doubles.tell(fleet.services, region, times_slower=SLOWED)
    lasts_s = LASTS.total_seconds() * options.scale
    await _capacity_per_s(fleet, WARM_UP_S)
    capacity = await _capacity_per_s(fleet, max(LEAST_MEASURED_S, lasts_s / 2))
    orders = fresh_orders(round(TIMES * capacity * lasts_s))
    load = Load(
        fleet.client,
        Question,
        orders,
        per_s=TIMES * capacity,
        deadline=options.deadline,
        retries=False,
        users=USERS,
    )
    began = time.monotonic()
    with progress(load, len(orders)):
        await load.drive()
    in_time = [
        run
        for run in load.runs
        if run.ended_s is not None
        and run.answer is not None
        and run.ended_s - run.submitted_s <= DEADLINE.total_seconds()
        and run.ended_s - began <= lasts_s
    ]
    counted = tally(Question, load.runs, await effects_of(fleet.ledger, orders))
    refused_s = [seconds for run in load.runs for seconds in run.refused_after_s]
    refused_p50_s, refused_p99_s = middle_and_tail(refused_s)
    hung = sum(run.accepted_s is not None and run.ended_s is None for run in load.runs)
    goodput = len(in_time) / lasts_s
    percent = round(100 * goodput / capacity, 1)
    row = {
        "overload": OVERLOAD,
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(TIMES * capacity, 1),
        "goodput_per_s": round(goodput, 1),
        "goodput_percent": percent,
        "runs": len(load.runs),
        "accepted": counted.runs,
        "refused": counted.refused,
        "refused_p50_s": refused_p50_s,
        "refused_p99_s": refused_p99_s,
        "late": counted.runs - len(in_time) - hung,
        "hung": hung,
        "failed": counted.failed,
        "wrong": counted.wrong,
        "duplicated": counted.duplicated,
        "outside": counted.outside,
    }
    return Overloaded(row, percent, refused_p99_s, hung)


async def _capacity_per_s(fleet: Fleet, seconds: float) -> float:
    ends = time.monotonic() + seconds
    numbers = iter(fresh_orders(50_000))
    answered: list[float] = []

    async def user(numbers: Iterator[int] = numbers) -> None:
        for order in numbers:
            run = await fleet.client.start(
                Question.run, order, origin=HOME, residency="EU", id=f"question-{order}"
            )
            await run.result()
            if time.monotonic() > ends:
                return
            answered.append(time.monotonic())

    await asyncio.gather(*(user() for _ in range(AT_ONCE)))
    return len(answered) / seconds
