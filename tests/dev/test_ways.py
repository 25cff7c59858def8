"""The same agent in every way, on two real servers a few milliseconds apart."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.stack import rtt_ms_from
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.ways import (
    INSTANT,
    WAYS,
    Answer,
    Workload,
    compare,
    expected_answer,
    measured_apart,
    nearest_region,
    user,
    workers,
)
from orchestrator.dev.ways import comparison as comparison_module
from orchestrator.errors import CellUnavailableError, StackError
from orchestrator.geography import Coordinates, Origin, estimated_rtt_ms
from orchestrator.topology import Cell, Link, Offer, Region, Topology

PARIS, FRANKFURT = Coordinates(48.9, 2.4), Coordinates(50.1, 8.7)
READER = Origin(label="Saint-Denis", coordinates=Coordinates(48.93, 2.36))
APART_MS = 6.0


def topology(addresses: dict[str, str], *, links: bool = True) -> Topology:
    tool = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press")
    return Topology(
        cells=tuple(
            Cell(name=name, region=name, address=address, namespace=name)
            for name, address in addresses.items()
        ),
        regions=tuple(
            Region(
                name=name,
                coordinates=where,
                country=country,
                cell=name,
                offers=(tool,),
                control="http://127.0.0.1:1",
            )
            for name, where, country in (("paris", PARIS, "FR"), ("frankfurt", FRANKFURT, "DE"))
        ),
        links=(Link(source="paris", target="frankfurt", rtt_ms=APART_MS),) if links else (),
    )


@pytest.fixture(scope="module")
async def near(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Topology]:
    ports = free_ports(6)
    servers = [CellServer("paris", *ports[:3]), CellServer("frankfurt", *ports[3:])]
    async with Supervisor(tmp_path_factory.mktemp("ways")) as supervisor:
        await asyncio.gather(*(start_cell(server, supervisor) for server in servers))
        yield topology({server.name: server.address for server in servers})


async def test_every_way_gives_the_answer_and_says_its_round_trips(near: Topology) -> None:
    own = measured_apart(near)
    async with workers(own, "frankfurt"), user(READER, own, "frankfurt") as asks:
        assert set(asks) == set(WAYS)
        slow = Workload(service_ms={"retrieve": 1.0, "model": 2.0, "tool": 3.0}, agent=INSTANT.agent)
        for way, ask in asks.items():
            assert (await ask(INSTANT, "Where?")).text == expected_answer("Where?"), way
            answer = await ask(slow, "Why?")
            assert answer.text == expected_answer("Why?"), way
            assert [leg.count for leg in answer.legs] in ([1], [1, 5]), way
    assert slow.total_ms == 11


async def test_the_ways_are_compared_and_nothing_of_them_stays(near: Topology) -> None:
    before = asyncio.all_tasks()
    said: list[str] = []
    found = await compare(near, READER, "frankfurt", samples=2, progress=said.append)
    assert [way.way for way in found.ways] == ["a", "b", "c", "d"]
    assert all(len(way.times_ms) == 2 for way in found.ways)
    assert (found.near, found.gains_nothing) == ("paris", False)
    assert found.floor_ms == estimated_rtt_ms(READER.coordinates, PARIS)
    [to_near, apart] = found.ways[1].legs
    assert (to_near.rtt_ms, str(apart), apart.rtt_ms) == (found.floor_ms, "5 × paris–frankfurt", APART_MS)
    # the emulated distances are lower bounds on every machine
    for way in found.ways:
        assert min(way.times_ms) >= max(leg.count * leg.rtt_ms for leg in way.legs)
    assert "round 2 of 2" in said[-1]
    assert asyncio.all_tasks() == before


async def test_a_comparison_that_is_interrupted_leaves_nothing(near: Topology) -> None:
    before = asyncio.all_tasks()

    def interrupt(line: str) -> None:
        if "round 1 of" in line:
            comparing.cancel()

    comparing = asyncio.create_task(compare(near, READER, "frankfurt", samples=50, progress=interrupt))
    with pytest.raises(asyncio.CancelledError):
        await comparing
    left = asyncio.all_tasks() - before
    # of a run that was submitted, its client goes on waiting for the answer
    assert [getattr(task.get_coro(), "__name__", "") for task in left] in ([], ["_reached"])
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def test_a_user_near_the_centre_gains_nothing(near: Topology) -> None:
    found = await compare(near, READER, "paris", samples=1, progress=lambda _: None)
    assert found.gains_nothing
    assert found.ways[2].legs[1].rtt_ms == 0


async def test_a_wrong_answer_ends_the_comparison() -> None:
    async def wrong(workload: Workload, question: str) -> Answer:
        return Answer(question, ())

    with pytest.raises(StackError, match=r"way \(a\) answered 'Why\?' instead of 'Why\? > retrieve"):
        await comparison_module._checked("a", wrong, "Why?")


async def test_a_cell_that_is_away_is_named() -> None:
    away = topology({"paris": "127.0.0.1:1", "frankfurt": "127.0.0.1:1"})
    with pytest.raises(CellUnavailableError, match=r"cell (paris|frankfurt) does not answer"):
        await compare(away, READER, "frankfurt", samples=1, progress=lambda _: None)


def test_it_runs_apart_from_the_stack() -> None:
    stack = topology({"paris": "127.0.0.1:1", "frankfurt": "127.0.0.1:2"})
    assert stack.region("paris").offered
    own = measured_apart(stack)
    assert {cell.namespace for cell in own.cells} == {"default"}
    assert [region.control for region in own.regions] == [None, None]
    assert not own.region("paris").offered
    assert own.links == stack.links


def test_distances_that_nobody_measured_are_estimated() -> None:
    holes = topology({"paris": "127.0.0.1:1", "frankfurt": "127.0.0.1:2"}, links=False)
    inside = Origin(label="paris", coordinates=PARIS, region="paris")
    assert rtt_ms_from(holes, inside)("frankfurt") == estimated_rtt_ms(PARIS, FRANKFURT)
    assert rtt_ms_from(holes, inside)("paris") == 0
    assert nearest_region(holes, READER) == "paris"
    whole = topology({"paris": "127.0.0.1:1", "frankfurt": "127.0.0.1:2"})
    there = Origin(label="frankfurt", coordinates=FRANKFURT, region="frankfurt")
    assert rtt_ms_from(whole, there)("paris") == APART_MS, "a link of one direction serves for both"
