"""Conducts a scenario: users start runs, a fault comes and goes, and everything is counted."""

import asyncio
import itertools
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import structlog
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from bench.chaos.agents import Errand, effects_expected, requests_expected
from bench.chaos.doubles import requests_for
from bench.chaos.faults import Schedule
from bench.chaos.figures import Struck, Tally, middle_and_tail, recoveries_s, tally
from bench.chaos.fleet import Fleet
from bench.chaos.ledger import Effect, effects_of
from bench.chaos.load import Load, RunRecord, run_id
from bench.chaos.places import FAR, HOME
from bench.chaos.scenarios import Options, Scenario

FAULT_COMES_AT = 0.2
"""Which part of the runs has started by then."""

RUSH, RUSH_ACCEPTED_WITHIN = 0.08, timedelta(seconds=10)
"""Which part of them starts at once in a rush, and how long the fault waits for it to be accepted."""

WARM_UP_RUNS, CALIBRATION_RUNS, CALIBRATION_AT_ONCE = 24, 60, 12

SETTLED_WITHIN = timedelta(seconds=30)

MOST_PER_S = 25.0
LEAST_PER_S = 1.0

_blocks = itertools.count()


def fresh_orders(count: int) -> range:
    """Numbers of runs that nobody has used; a new block begins where a residency's turn begins."""
    first = 60_000 * next(_blocks)
    return range(first, first + count)


@dataclass(frozen=True)
class Baseline:
    """How a healthy fleet does."""

    p50_s: float
    p99_s: float


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario."""

    row: dict[str, Any]
    tally: Tally
    recovery_p99_s: float | None
    hit: int
    """Steps or runs whose recovery was measured."""

    run_p99_s: float | None
    """Of the runs that were under way during the fault, None if one of them never ended."""

    extra_requests_percent: float
    reasons: dict[str, int]
    """Why runs failed, starts were refused, answers did not come: for people."""

    loosened: bool
    """Whether runs are left over, so that the next scenario needs another fleet."""


async def settled(fleet: Fleet) -> bool:
    """Runs a few, until plans put the far step where the faults will be: the fleet's view has then learned.

    Returns:
        Whether they do, within half a minute.
    """
    ends = time.monotonic() + SETTLED_WITHIN.total_seconds()
    while True:
        await _several(fleet, WARM_UP_RUNS)
        plan = fleet.client.plan(Errand, origin=HOME, residency="EU")
        fetch, clerk = plan.root.steps["fetch"], plan.root.handoffs["Clerk"]
        if (fetch.chosen.region, plan.home, clerk.home) == (FAR, HOME, FAR):
            return True
        if time.monotonic() > ends:
            costs = {one.region: round(one.cost.predicted_ms) for one in fetch.candidates}
            say(f"  not settled: home {plan.home}, clerk {clerk.home}, fetch {costs}, {dict(fetch.excluded)}")
            return False


async def measured_rate(fleet: Fleet) -> float:
    """Half of the runs a second that the fleet can do on this machine."""
    await _several(fleet, WARM_UP_RUNS)
    began = time.monotonic()
    await _several(fleet, CALIBRATION_RUNS)
    per_s = CALIBRATION_RUNS / (time.monotonic() - began)
    return max(LEAST_PER_S, min(MOST_PER_S, per_s / 2))


async def _several(fleet: Fleet, count: int) -> None:
    numbers = iter(fresh_orders(count))

    async def one_after_another() -> None:
        for order in numbers:
            run = await fleet.client.start(
                Errand.run, order, origin=HOME, residency="EU", id=run_id(Errand, order)
            )
            await run.result()

    await asyncio.gather(*(one_after_another() for _ in range(CALIBRATION_AT_ONCE)))


async def conduct(
    scenario: Scenario, fleet: Fleet, options: Options, rate_per_s: float, healthy: Baseline | None
) -> Outcome:
    """Runs one scenario on a whole fleet; leaves it whole again, unless runs are left over."""
    orders = fresh_orders(options.runs)
    before = max(1, round(options.runs * FAULT_COMES_AT))
    rush = range(before, before + round(options.runs * RUSH)) if scenario.rush else range(0)
    load = Load(fleet.client, Errand, orders, per_s=rate_per_s, deadline=options.deadline, rush=rush)
    fault = scenario.fault(options)
    if isinstance(fault, Schedule):
        for timed in fault.faults:
            say(f"  {timed}")
    with progress(load, options.runs):
        driving = asyncio.create_task(load.drive())
        try:
            await load.until_submitted(before + len(rush))
            if rush:
                with suppress(TimeoutError):
                    # not all: some may be refused, and the first ones must not be over
                    await load.until_accepted(before + len(rush) * 3 // 4, RUSH_ACCEPTED_WITHIN)
            struck_s = time.monotonic()
            await fault.inflict(fleet)
            healed_s: float | None = None
            if scenario.lasts is not None:
                await asyncio.wait([driving], timeout=scenario.lasts.total_seconds() * options.scale)
                await fault.heal(fleet)
                healed_s = time.monotonic()
            await driving
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
    until_s = time.monotonic()
    if scenario.lasts is None:
        await fault.heal(fleet)
    struck = Struck(
        struck_s, healed_s, fault.regions, fault.cells, scenario.recovery, until_s, scenario.alive
    )
    return await _outcome(scenario, fleet, load, orders, struck, healthy)


async def _outcome(
    scenario: Scenario, fleet: Fleet, load: Load, orders: range, struck: Struck, healthy: Baseline | None
) -> Outcome:
    effects = await effects_of(fleet.ledger, orders)
    counted = tally(load.agent, load.runs, effects)
    recoveries = recoveries_s(struck, load.runs, effects, healthy.p50_s if healthy else 0.0)
    if healthy is None:
        recoveries = []
    p50_s, p99_s = middle_and_tail(recoveries)
    during = [run for run in load.runs if _under_way(run, struck)] if healthy else load.runs
    _, run_p99_s = middle_and_tail([_took_s(run) for run in during if run.accepted_s is not None])
    answered = [run for run in load.runs if run.answer is not None]
    wanted = sum(requests_expected(load.agent, run.order) for run in load.runs if run.accepted_s is not None)
    sent = sum((await requests_for(fleet.services, orders)).values())
    extra_percent = round(100 * (sent / wanted - 1), 2) if wanted else 0.0
    row: dict[str, Any] = {
        "scenario": scenario.name,
        **{key: value for key, value in asdict(counted).items()},
        "hit": len(recoveries),
        "recovery": str(scenario.recovery),
        "recovery_p50_s": p50_s,
        "recovery_p99_s": p99_s,
        "run_p50_s": middle_and_tail([_took_s(run) for run in answered])[0],
        "run_p99_s": run_p99_s,
        "extra_requests_percent": extra_percent,
    }
    return Outcome(
        row,
        counted,
        p99_s,
        len(recoveries),
        run_p99_s,
        extra_percent,
        _reasons(load.runs, effects, struck.until_s),
        loosened=counted.lost > 0 or counted.unaccepted > 0,
    )


def baseline_of(outcome: Outcome) -> Baseline:
    """What the others are compared with."""
    p50_s, p99_s = outcome.row["run_p50_s"], outcome.run_p99_s
    if p50_s is None or p99_s is None:
        raise RuntimeError("no run of a healthy fleet has been answered: look at the processes' logs")
    return Baseline(p50_s, p99_s)


def _took_s(run: RunRecord) -> float:
    return float("inf") if run.took_s is None else run.took_s


def _under_way(run: RunRecord, struck: Struck) -> bool:
    return run.submitted_s < struck.over_s and (run.ended_s is None or run.ended_s > struck.at_s)


def _reasons(runs: list[RunRecord], effects: Sequence[Effect], until_s: float) -> dict[str, int]:
    had = {(effect.order, effect.what) for effect in effects if effect.at_s <= until_s}
    counted: dict[str, int] = {}
    for run in runs:
        reasons = [f"refused: {reason}" for reason in run.refusals]
        reasons += [f"no answer yet: {reason}" for reason in run.caller_errors]
        reasons += [f"failed: {run.error}"] if run.error else []
        if run.accepted_s is not None and run.ended_s is None:
            wanted = effects_expected(Errand, run.order)
            next_one = next((what for what in wanted if (run.order, what) not in had), "its end")
            place = run.places.get(next_one, run.home)
            reasons.append(f"lost, waiting for {next_one} in {place}: home {run.home}, cell {run.cell}")
        for reason in reasons:
            counted[reason] = counted.get(reason, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: -item[1]))


def say(text: str) -> None:
    """To people, who read standard error; data goes to files and standard output."""
    print(text, file=sys.stderr, flush=True)


def quiet() -> None:
    """What is broken on purpose is no news: only errors are logged here. Call it before anything connects."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("temporalio").setLevel(logging.ERROR)
    errors = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=errors)), error_if_already_set=False)


@contextmanager
def progress(load: Load, total: int, every: timedelta = timedelta(seconds=10)) -> Iterator[None]:
    """Says now and then how far the runs are."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(every.total_seconds())
            say(f"  {len(load.runs)} of {total} started, {load.ended} ended")

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
