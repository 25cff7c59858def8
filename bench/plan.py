"""How long plan() takes: an agent of ten steps over 10, 100 and 1,000 regions."""

import argparse
import random
import time

from bench.report import summary, write
from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import AgentProfile, Snapshot, StepProfile, plan
from orchestrator.requirements import Needs, requirements
from orchestrator.topology import Cell, Offer, Region, Topology

GOALS_P50_MS = {
    (10, 16): 2.0,
    (100, 16): 10.0,
    (1000, 16): 50.0,
    (10, None): 2.0,
    (100, None): 20.0,
    (1000, None): 150.0,
}
"""By regions and the receipt's limit: 16 is what a run carries, None the whole receipt, as people read it."""

REGIONS_A_CELL = 10
ROLES = ("chat", "embed", "judge")


def topology(regions: int, seed: int = 7) -> Topology:
    """Regions anywhere on land or sea; ten share a cell, each offers two models of three."""
    chance = random.Random(seed)
    names = [f"r{number}" for number in range(regions)]
    hosts = names[::REGIONS_A_CELL]
    return Topology(
        cells=tuple(Cell(name=f"c-{name}", region=name, address="localhost:7233") for name in hosts),
        regions=tuple(
            Region(
                name=name,
                coordinates=Coordinates(chance.uniform(-60, 70), chance.uniform(-180, 180)),
                country=chance.choice(["DE", "FR", "US", "SG", "BR", "JP"]),
                cell=f"c-{hosts[number // REGIONS_A_CELL]}",
                offers=tuple(
                    Offer(kind="model", name=role, endpoint="http://localhost:8080/v1", price=chance.random())
                    for role in chance.sample(ROLES, 2)
                ),
            )
            for number, name in enumerate(names)
        ),
    )


def agent(steps: int = 10) -> AgentProfile:
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


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=plan", description=__doc__)
    parser.add_argument("--repeat", type=int, default=50, help="plans of each size (default: 50)")
    options = parser.parse_args(arguments)
    lisbon = Origin(label="Lisbon, PT", coordinates=Coordinates(38.72, -9.14))
    results = []
    for (regions, limit), goal_ms in GOALS_P50_MS.items():
        places = topology(regions)
        plan(agent(), lisbon, places, Snapshot(), limit=limit)
        times_ms: list[float] = []
        for _ in range(options.repeat):
            started = time.perf_counter()
            plan(agent(), lisbon, places, Snapshot(), limit=limit)
            times_ms.append((time.perf_counter() - started) * 1000)
        result = {
            "regions": regions,
            "steps": 10,
            "limit": limit,
            **summary(times_ms),
            "goal_p50_ms": goal_ms,
        }
        result["met"] = result["p50_ms"] <= goal_ms
        results.append(result)
        print("  ".join(f"{key} {value}" for key, value in result.items()), flush=True)
    print(f"written to {write('plan', results)}")
    return 0 if all(result["met"] for result in results) else 1
