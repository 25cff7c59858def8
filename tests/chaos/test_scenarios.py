"""A short version of ``make chaos``: a real fleet, real SIGKILL. The long one is the proof.

Scenarios whose goals are not met are not here: ``docs/reliability.md`` lists them with their causes.
"""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bench.chaos.__main__ import Harness
from bench.chaos.results import Results
from bench.chaos.scenarios import SCENARIOS, Options, Scenario

OPTIONS = Options(runs=20, seed=1, scale=0.3, deadline=timedelta(seconds=45), rate_per_s=4)

HOLD = (
    *("healthy", "worker-killed", "region-killed", "home-killed", "cell-gone"),
    *("partition-reset", "region-slow", "model-cuts", "clock-jump"),
)


@pytest.fixture(scope="module")
async def harness(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Harness]:
    async with Harness(tmp_path_factory.mktemp("chaos"), OPTIONS) as harness:
        yield harness


@pytest.mark.parametrize("name", HOLD)
async def test_no_run_is_lost(name: str, harness: Harness) -> None:
    results = Results(OPTIONS)
    await harness.run(by_name(name), results)
    row = results.rows[name]
    assert row["runs"] == OPTIONS.runs
    told = {key: row[key] for key in ("lost", "failed", "duplicated", "missing", "wrong", "outside")}
    assert set(told.values()) == {0}, told


def by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)
