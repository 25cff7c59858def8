"""A five-step agent for users in 20 cities: all central, half and half, and placed by Edgeward.

The agent looks something up, asks a model, calls a tool, asks and calls again; each step needs the answer of
the one before. Its users are in the 20 most populous cities of the world that are 1,000 km apart; in figures
for all users a city counts by its population. There are five regions, each with a real Temporal server, in
Frankfurt, Ashburn, Singapore, São Paulo and Tokyo. All of it is on one machine, and delay proxies stand for
the distances: between regions the medians of a year between AWS regions (cloudping.co), from a city to a
region an estimate from coordinates (light in fibre along the great circle × 1.7): nobody measured those.

The ways, each with its workers tuned alike and its answer in the response to the start where it can be:

- **a**: everything is in us-east; the steps are local activities.
- **b**: the agent is in the region nearest to the user; its steps call services in us-east over HTTP, on kept
  connections. In **b queued**, a worker in us-east polls the near server for the steps instead.
- **c**: the agent and the one Temporal server are in us-east; workers near the user poll it for the steps.
- **d**: Edgeward, with models, index and tools in every region.
- **by hand**: plain temporalio in the region nearest to the user, with everything there; the steps are local
  activities. No way to choose from, for somebody would have to know where each user is: it is what of (d)'s
  time is Temporal's own.

The *floor* is what distance alone costs: one round trip from the user to the nearest region, plus the
services. In the mode *instant* the services take no time; in *recorded* they take what was recorded of
coding agents (TraceLab: 5.7 s a model call, 0.3 s a tool call). In each round every city asks once in every
way, and more often where (a) is as near as (d), cities and ways in random order. *Network* is the round trips
on paper, *rest* is what is left without them and the services.
"""

import argparse
import asyncio
import logging
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from bench.report import at_most, percentile, write
from bench.wan_agents import WORKLOADS, application
from bench.wan_places import City, distances, largest_cities, named_city
from bench.wan_ways import cells
from orchestrator.dev.ways import CENTRAL, Answer, Ask, expected_answer, user, workers
from orchestrator.errors import UnknownOriginError

WAYS = {
    "a": f"all in {CENTRAL}: steps are local activities",
    "b": f"agent near the user; steps are local activities that call services in {CENTRAL} over HTTP",
    "b queued": f"agent near the user; a worker in {CENTRAL} polls the near cell for its steps",
    "c": f"agent and the one Temporal server in {CENTRAL}; steps on queues near the user",
    "d": "Edgeward",
    "by hand": "plain temporalio near the user, the run placed by hand; steps are local activities",
}
OTHERS = ("a", "b", "b queued", "c")
LANES = {"instant": 1, "recorded": 20}
"""How many cities ask at a time. Without service times it is one: more would wait for the machine."""

WARM_UP = 3
"""Runs of each way from each city that do not count: they open connections and fill caches."""

ASKS_NEXT_TO_CENTRAL = 6
"""Of a city in a round, without service times: there (a) and (d) do the same, and differ by little."""

FLOOR_P50, FLOOR_P99 = 1.10, 1.30
"""Goals: (d) over the physical floor."""

BY_HAND = 1.05
"""Goal: (d) over plain temporalio in the same place, p50."""


@dataclass(frozen=True)
class Sample:
    mode: str
    city: City
    way: str
    took_ms: float
    answer: Answer

    @property
    def service_ms(self) -> float:
        return service_ms(self.mode)

    @property
    def rest_ms(self) -> float:
        """Neither the network, as far as its round trips are counted, nor the services."""
        return self.took_ms - self.answer.network_ms - self.service_ms


def service_ms(mode: str) -> float:
    return WORKLOADS[mode].total_ms


async def measure(cities: Sequence[City], rounds: dict[str, int], seed: int) -> list[Sample]:
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as resources:
            started = time.monotonic()
            known = await resources.enter_async_context(cells(Path(folder)))
            await resources.enter_async_context(workers(known, CENTRAL, application))
            callers = {
                city: await resources.enter_async_context(user(city.origin, known, CENTRAL, application))
                for city in cities
            }
            print(f"servers and workers ready in {time.monotonic() - started:.0f} s", flush=True)
            await asyncio.gather(*(_warm_up(ways) for ways in callers.values()))
            chance = random.Random(seed)
            for mode, count in rounds.items():
                started = time.monotonic()
                for _ in range(count):
                    samples += await _round(mode, callers, chance)
                print(f"{mode}: {count} rounds in {time.monotonic() - started:.0f} s", flush=True)
    return samples


async def _warm_up(ways: Mapping[str, Ask]) -> None:
    for ask in ways.values():
        for _ in range(WARM_UP):
            await ask(WORKLOADS["instant"], "warm up")


async def _round(mode: str, callers: Mapping[City, Mapping[str, Ask]], chance: random.Random) -> list[Sample]:
    """Each city asks in each way; cities and ways in random order."""
    asking = [city for city in callers for _ in range(_asks(mode, city))]
    waiting = [(city, chance.sample(list(WAYS), len(WAYS))) for city in asking]
    chance.shuffle(waiting)
    samples: list[Sample] = []

    async def lane(number: int, lanes: int) -> None:
        # not in step with each other, or all of them meet at the servers
        await asyncio.sleep(number / lanes * service_ms(mode) / 1000)
        while waiting:
            city, order = waiting.pop()
            for way in order:
                samples.append(await _sample(mode, city, way, callers[city][way]))

    lanes = min(LANES[mode], len(waiting))
    await asyncio.gather(*(lane(number, lanes) for number in range(lanes)))
    return samples


def _asks(mode: str, city: City) -> int:
    return ASKS_NEXT_TO_CENTRAL if mode == "instant" and city.is_next_to_central else 1


async def _sample(mode: str, city: City, way: str, ask: Ask) -> Sample:
    question = f"What is near {city.name}?"
    started = time.perf_counter()
    answer = await ask(WORKLOADS[mode], question)
    took_ms = (time.perf_counter() - started) * 1000
    if answer.text != expected_answer(question):
        raise SystemExit(f"wrong answer from ({way}) for {city.label}: {answer.text!r}")
    return Sample(mode, city, way, took_ms, answer)


def weighted_percentile(values: Iterable[tuple[float, float]], percent: float) -> float:
    """The smallest value that ``percent`` of the weight does not exceed, of pairs of value and weight."""
    ordered = sorted(values)
    wanted = sum(weight for _, weight in ordered) * percent / 100
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted - 1e-9:
            return value
    raise ValueError("no values")


class Findings:
    """What the samples of one mode say."""

    def __init__(self, mode: str, samples: Sequence[Sample]) -> None:
        self.mode = mode
        self.samples = [sample for sample in samples if sample.mode == mode]
        found = {sample.city for sample in self.samples}
        self.cities = sorted(found, key=lambda city: city.floor_ms(0))

    def of(self, way: str, city: City | None = None) -> list[Sample]:
        return [s for s in self.samples if s.way == way and city in (None, s.city)]

    def p50(self, way: str, city: City) -> float:
        return percentile([sample.took_ms for sample in self.of(way, city)], 50)

    def weighted(
        self, way: str, percent: float, value: Callable[[Sample], float] = lambda sample: sample.took_ms
    ) -> float:
        """Over all users: each city counts by its population, however often it asked."""
        asks = Counter(sample.city for sample in self.of(way))
        weights = ((value(s), s.city.population / asks[s.city]) for s in self.of(way))
        return weighted_percentile(weights, percent)

    def floor(self, percent: float) -> float:
        floors = ((city.floor_ms(service_ms(self.mode)), city.population) for city in self.cities)
        return weighted_percentile(floors, percent)

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for city in self.cities:
            row = {"mode": self.mode, "city": city.label, "population": city.population}
            row |= {"home": city.best_region, "floor_ms": round(city.floor_ms(service_ms(self.mode)), 1)}
            row |= {f"{way} p50_ms": round(self.p50(way, city), 1) for way in WAYS}
            rows.append(row | {"n": len(self.of("d", city))})
        return rows

    def summaries(self) -> list[dict[str, Any]]:
        """Of each way over all users, with where the time goes."""
        return [
            {
                "mode": self.mode,
                "way": way,
                **{f"p{p}_ms": round(self.weighted(way, p), 1) for p in (50, 95, 99)},
                "n": len(self.of(way)),
                "legs": " + ".join(f"{leg.count} {leg.kind}" for leg in self.of(way)[0].answer.legs),
                "network_p50_ms": round(self.weighted(way, 50, lambda s: s.answer.network_ms), 1),
                "service_ms": service_ms(self.mode),
                "rest_p50_ms": round(self.weighted(way, 50, lambda s: s.rest_ms), 1),
                "rest_p99_ms": round(self.weighted(way, 99, lambda s: s.rest_ms), 1),
            }
            for way in WAYS
        ]

    def over_the_floor(self) -> dict[str, float]:
        """What (d) takes beyond the floor, p50 over all users: round trips more than one, and the rest."""
        return {
            "round_trips_ms": self.weighted(
                "d", 50, lambda s: s.answer.network_ms - s.city.rtt_ms(s.city.best_region)
            ),
            "rest_ms": self.weighted("d", 50, lambda s: s.rest_ms),
        }

    def goals(self) -> list[dict[str, Any]]:
        ratios = {percent: self.weighted("d", percent) / self.floor(percent) for percent in (50, 99)}
        worst = {
            city: self.p50("d", city) / min(self.p50(way, city) for way in OTHERS) for city in self.cities
        }
        slower_far = [city.name for city in self.cities if not city.is_next_to_central and worst[city] >= 1]
        slowest = max(self.cities, key=lambda city: worst[city])
        return [
            at_most(f"{self.mode}: (d) over the floor, p50", ratios[50], FLOOR_P50),
            at_most(f"{self.mode}: (d) over the floor, p99", ratios[99], FLOOR_P99),
            at_most(
                f"{self.mode}: cities not next to {CENTRAL} where (d) is not the fastest"
                + (f" ({', '.join(slower_far)})" if slower_far else ""),
                len(slower_far),
                0,
            ),
            at_most(
                f"{self.mode}: (d) over the fastest other, p50 of the worst city ({slowest.name})",
                worst[slowest],
                1.0,
            ),
            at_most(
                f"{self.mode}: (d) over plain temporalio placed by hand, p50",
                self.weighted("d", 50) / self.weighted("by hand", 50),
                BY_HAND,
            ),
        ]

    def print(self) -> None:
        heads = ("city", "home", "floor", *WAYS, "d/floor")
        print(f"\n{self.mode}: p50 in ms, services take {service_ms(self.mode):.0f} ms")
        print(f"{heads[0]:20} {heads[1]:14}" + "".join(f"{head:>10}" for head in heads[2:]))
        for row in self.rows():
            times = (row["floor_ms"], *(row[f"{way} p50_ms"] for way in WAYS))
            ratio = row["d p50_ms"] / row["floor_ms"]
            cells = "".join(f"{value:10.1f}" for value in times)
            print(f"{row['city']:20} {row['home']:14}{cells}{ratio:10.2f}")
        for percent in (50, 99):
            floor, d = self.floor(percent), self.weighted("d", percent)
            times = (floor, *(self.weighted(way, percent) for way in WAYS))
            cells = "".join(f"{value:10.1f}" for value in times)
            print(f"{'all users':20} {f'p{percent}':14}{cells}{d / floor:10.2f}")
        print("where the time goes, all users, p50:")
        for found in self.summaries():
            print(
                f"  {found['way']:9} network {found['network_p50_ms']:7.1f}  rest {found['rest_p50_ms']:6.1f}"
                f" (p99 {found['rest_p99_ms']:.1f})  n {found['n']}  {found['legs']}"
            )
        over = self.over_the_floor()
        print(
            f"  (d) over its floor: {over['round_trips_ms']:.1f} ms of further round trips; the rest, "
            f"{over['rest_ms']:.1f} ms, is of servers, workers and this machine: by hand "
            f"{self.weighted('by hand', 50, lambda s: s.rest_ms):.1f} ms"
        )


def main(arguments: list[str]) -> int:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="make bench BENCH=wan", description=about)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=2 if quick else 4, help="without service times")
    parser.add_argument("--recorded", type=int, default=0 if quick else 2, help="rounds with service times")
    parser.add_argument("--seed", type=int, default=7, help="of the order of cities and ways")
    parser.add_argument(
        "--city",
        action="append",
        help="ask from here instead: a city, or latitude,longitude; repeat for more",
    )
    options = parser.parse_args(arguments)
    cities = largest_cities(20)[:: 6 if quick else 1]
    try:
        cities = [named_city(text) for text in options.city or ()] or cities
    except UnknownOriginError as error:
        parser.error(str(error))
    quiet = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    # chains of local activities that take longer than a workflow task are meant here, and Temporal warns
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=quiet)))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rounds = {"instant": options.rounds, "recorded": options.recorded}
    rounds = {mode: count for mode, count in rounds.items() if count}
    load = os.getloadavg()[0]
    samples = asyncio.run(measure(cities, rounds, options.seed))
    print(
        f"machine: {os.cpu_count()} cores, load average {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    )
    for way, about in WAYS.items():
        print(f"({way}) {about}")
    for sentence in distances(cities):
        print(sentence)
    results: list[dict[str, Any]] = []
    goals: list[dict[str, Any]] = []
    for mode in rounds:
        findings = Findings(mode, samples)
        findings.print()
        results += findings.summaries() + findings.rows()
        goals += findings.goals()
    print()
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('wan', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1
