"""What a cell's index tells of real runs, and the filters that the documentation offers."""

import asyncio
import re
from pathlib import Path

from temporalio.client import Client

from orchestrator import EdgeClient
from orchestrator.trace.runs import ListedRun, RunFilter, RunsOfCell, list_runs, newest
from tests.trace.agents import Mixed, Pair

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "temporal-ui.md"


async def listed(client: Client, wanted: RunFilter, *ids: str) -> list[ListedRun]:
    """Those that match, once the index knows so many of these."""
    async with asyncio.timeout(30):
        while True:
            found = (await list_runs(client, "traced", wanted, limit=1000)).runs
            if set(ids) <= {run.run for run in found}:
                return list(found)
            await asyncio.sleep(0.05)


async def test_every_filter_of_the_documentation_is_one(traced: EdgeClient) -> None:
    [filters] = re.findall(
        r"^## Filters\n.*?```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S | re.M
    )
    queries = filters.splitlines()
    assert len(queries) >= 5
    for query in queries:
        async for _ in traced.cell("traced").list_workflows(query):
            break


async def test_a_run_and_its_sub_agents(traced: EdgeClient) -> None:
    run = await traced.start(Pair.run, 1, origin="traced")
    await run.result()
    client = traced.cell("traced")
    [found] = [one for one in await listed(client, RunFilter(), run.id) if one.run == run.id]
    assert (found.agent, found.home, found.places) == ("Pair", "traced", ("traced",))
    assert found.residency == "anywhere"
    assert found.parent is None
    below = [one for one in await listed(client, RunFilter(sub_agents=True), run.id) if one.parent == run.id]
    assert below
    assert {one.home for one in below} == {"traced"}


async def test_the_newest_are_taken(traced: EdgeClient) -> None:
    client = traced.cell("traced")
    runs = [await traced.start(Mixed.run, 1, origin="traced") for _ in range(3)]
    found = await listed(client, RunFilter(agent="Mixed", sub_agents=True), *(run.id for run in runs))
    two = await list_runs(client, "traced", RunFilter(agent="Mixed"), limit=2)
    assert [run.run for run in two.runs] == [runs[2].id, runs[1].id]
    assert two.all_seen
    older, newer = RunsOfCell(tuple(found[1:]), all_seen=True), RunsOfCell(tuple(found[:1]), all_seen=True)
    assert newest([older, newer], 2) == found[:2]
    for run in runs:
        await run.result()
