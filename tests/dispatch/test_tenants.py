"""Tenants take turns where steps wait: the effect of Temporal's fairness keys on a real server."""

import asyncio
from datetime import timedelta

import pytest

from orchestrator import EdgeClient, EdgeRun
from orchestrator.errors import ConfigurationError
from orchestrator.fleet.probes import queue_statistics
from tests.dispatch.leipzig import HOME, edge, topology, worker
from tests.dispatch.spenders import Asleep, WorkFor, gate, turns

__all__ = ["edge", "topology", "worker"]


async def waiting(edge: EdgeClient, count: int) -> None:
    """Returns when so many steps wait in the queue."""
    async with asyncio.timeout(60):
        while True:
            told = await queue_statistics(edge.cell("europe"), f"{HOME}.tool", timedelta(seconds=5))
            if told.backlog >= count:
                return
            await asyncio.sleep(0.1)


@pytest.fixture(autouse=True)
def closed_gate() -> None:
    gate.clear()
    turns.clear()


async def test_a_small_tenant_does_not_wait_for_all_of_a_big_one(edge: EdgeClient) -> None:
    big = await edge.start(WorkFor.run, ("big", 200), origin=HOME, tenant="big")
    await waiting(edge, 199)
    small = await edge.start(WorkFor.run, ("small", 10), origin=HOME, tenant="small", weight=1.0)
    await waiting(edge, 209)
    gate.set()
    await asyncio.gather(big.result(), small.result())
    assert turns.count("small") == 10
    assert turns.count("big") == 200
    last = max(index for index, tenant in enumerate(turns) if tenant == "small")
    assert last < 150, turns


async def test_a_tenant_of_four_times_the_weight_has_most_of_the_turns(edge: EdgeClient) -> None:
    # no tenant may run out of steps in the turns that are counted
    light = await edge.start(WorkFor.run, ("light", 200), origin=HOME, tenant="light", weight=1.0)
    await waiting(edge, 199)
    heavy = await edge.start(WorkFor.run, ("heavy", 200), origin=HOME, tenant="heavy", weight=4.0)
    await waiting(edge, 399)
    gate.set()
    await asyncio.gather(light.result(), heavy.result())
    first = turns[:80]
    assert first.count("heavy") > 2 * first.count("light"), turns


async def test_steps_of_one_tenant_do_not_overtake_each_other(edge: EdgeClient) -> None:
    runs: list[EdgeRun[None]] = []
    for number in range(8):
        runs.append(await edge.start(WorkFor.run, (f"{number:02}", 1), origin=HOME))
        await waiting(edge, number)  # one has the slot
    gate.set()
    await asyncio.gather(*(run.result() for run in runs))
    # of the first two, which are started at once, either may have come first
    assert turns[2:] == [f"{number:02}" for number in range(2, 8)]


@pytest.mark.parametrize(
    "wrong",
    [{"tenant": ""}, {"tenant": "x" * 65}, {"weight": 2.0}, {"tenant": "acme", "weight": 0.0}],
)
async def test_a_tenant_that_temporal_would_not_take_is_refused(
    edge: EdgeClient, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        await edge.start(Asleep.run, origin=HOME, **wrong)
