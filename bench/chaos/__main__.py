"""``make chaos``: breaks a real fleet in many ways, and says which promises held.

Every scenario puts its runs through a fault that comes when a fifth of them have started. Results go to
``bench/out/chaos.json``; scenarios that were not run keep the results that they had there.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

from bench.chaos import clock
from bench.chaos.conduct import Baseline, baseline_of, conduct, measured_rate, quiet, say, settled
from bench.chaos.fleet import Fleet, Shape, running
from bench.chaos.overload import SHAPE, overload
from bench.chaos.results import Results
from bench.chaos.scenarios import HEALTHY, OVERLOAD, OVERLOAD_ABOUT, SCENARIOS, Options, Scenario
from orchestrator.runtime import event_loop

SHORT_RUNS = 40
SHORT_SCALE = 0.4


class Harness:
    """One fleet after the other: a new one where the shape differs or runs are left over.

    Args:
        folder: For databases, topologies and logs.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder = folder
        self._options = options
        self._resources = AsyncExitStack()
        self._fleet: Fleet | None = None
        self._count = 0
        self._rate_per_s = options.rate_per_s
        self._healthy: Baseline | None = None

    async def __aenter__(self) -> "Harness":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop_fleet()

    async def drop_fleet(self) -> None:
        """Ends the processes of the fleet."""
        self._fleet = None
        await self._resources.aclose()

    async def fleet(self, shape: Shape) -> Fleet:
        """A whole fleet of this shape."""
        if self._fleet is not None and self._fleet.shape == shape:
            await self._fleet.until_whole()
            return self._fleet
        await self.drop_fleet()
        began = time.monotonic()
        self._count += 1
        self._fleet = await self._resources.enter_async_context(
            running(shape, self._folder / str(self._count))
        )
        say(f"fleet {self._count} ready in {time.monotonic() - began:.1f} s")
        return self._fleet

    async def run(self, scenario: Scenario, results: Results) -> None:
        """Runs a scenario, after the healthy one if that has not run yet."""
        if self._healthy is None and scenario.name != HEALTHY:
            await self.run(SCENARIOS[0], results)
        fleet = await self.fleet(scenario.shape)
        if not await settled(fleet):  # what it has learned keeps it from where the fault will be: start anew
            await self.drop_fleet()
            fleet = await self.fleet(scenario.shape)
            await settled(fleet)
        if self._rate_per_s is None:
            self._rate_per_s = await measured_rate(fleet)
        say(f"{scenario.name}: {scenario.about}; {self._rate_per_s:.1f} runs/s")
        began = time.monotonic()
        outcome = await conduct(scenario, fleet, self._options, self._rate_per_s, self._healthy)
        if scenario.name == HEALTHY:
            self._healthy = baseline_of(outcome)
        results.add(scenario, outcome, self._healthy)
        say(f"  {time.monotonic() - began:.0f} s: {results.in_short(scenario.name)}")
        for reason, count in list(outcome.reasons.items())[:6]:
            say(f"    {count} x {reason}")
        if outcome.loosened:
            await self.drop_fleet()

    async def run_overload(self, results: Results) -> None:
        """Runs the scenario that has a fleet and figures of its own."""
        say(f"{OVERLOAD}: {OVERLOAD_ABOUT}")
        results.add_overload(await overload(await self.fleet(SHAPE), self._options))
        await self.drop_fleet()


async def breaking(names: Sequence[str], options: Options, results: Results) -> None:
    """Runs the scenarios of these names, in their order."""
    with tempfile.TemporaryDirectory(prefix="edgeward-chaos-", ignore_cleanup_errors=True) as folder:
        async with Harness(Path(folder), options) as harness:
            for scenario in SCENARIOS:
                if scenario.name in names:
                    await harness.run(scenario, results)
            if OVERLOAD in names:
                await harness.run_overload(results)


def main(arguments: Sequence[str]) -> int:
    known = [*(scenario.name for scenario in SCENARIOS), OVERLOAD]
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    short = os.environ.get("QUICK") == "1"
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all of them if none is named")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--runs", type=int, default=SHORT_RUNS if short else 500, help="of each scenario")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="of the random schedule")
    parser.add_argument("--rate", type=float, help="runs a second; default: half of what the machine can do")
    parser.add_argument("--deadline", type=float, default=60, help="seconds after which a run is lost")
    parser.add_argument("--scale", type=float, default=SHORT_SCALE if short else 1, help="of faults' times")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:17} {scenario.about}")
        print(f"{OVERLOAD:17} {OVERLOAD_ABOUT}")
        return 0
    if unknown := [name for name in chosen.scenarios if name not in known]:
        print(f"unknown scenario {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    options = Options(
        runs=chosen.runs,
        seed=chosen.seed,
        scale=chosen.scale,
        deadline=timedelta(seconds=chosen.deadline),
        rate_per_s=chosen.rate,
    )
    say(f"seed {options.seed}; clocks are bent by {clock.means()}")
    quiet()
    results = Results(options)
    with asyncio.Runner(loop_factory=event_loop) as runner:
        try:
            runner.run(breaking(chosen.scenarios or known, options, results))
        except KeyboardInterrupt:
            return 130
        finally:
            results.print_table()
            if results.rows or results.overloads:
                print(f"written to {results.write()}")
    return 0 if results.all_hold else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
