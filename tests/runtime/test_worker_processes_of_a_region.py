"""Two worker processes of one region on one bus, against a real Temporal server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Region, Topology
from tests.dispatch.conftest import server
from tests.runtime.talker import Talker, application
from tests.runtime.test_pieces_bus import Bus
from tests.runtime.test_worker_process import event, events, worker


@dataclass(frozen=True)
class TwoProcesses:
    topologies: tuple[Topology, Topology]
    """The region as a caller sees it who listens at the first, and at the second."""

    processes: set[str]
    bus: Bus


@pytest.fixture(scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TwoProcesses]:
    folder: Path = tmp_path_factory.mktemp("two")
    first, second, bus_port = free_ports(3)
    cell = server("europe")
    async with Supervisor(folder) as supervisor:
        bus = Bus(supervisor, folder / "jetstream", bus_port)
        await asyncio.gather(start_cell(cell, supervisor), bus.start())
        topologies = tuple(one_region(cell.address, port, bus_port) for port in (first, second))
        listen = ("--listen", f"127.0.0.1:{second}")
        talker = "tests.runtime.talker:application"
        async with (
            worker(topologies[0], folder, application=talker) as one,
            worker(topologies[0], folder, *listen, application=talker) as other,
        ):
            await asyncio.gather(both_polled(events(one)), both_polled(events(other)))
            yield TwoProcesses((topologies[0], topologies[1]), {str(one.pid), str(other.pid)}, bus)


def one_region(cell: str, control: int, bus: int) -> Topology:
    return Topology(
        cells=(Cell(name="europe", region="frankfurt", address=cell, namespace="europe"),),
        regions=(
            Region(
                name="frankfurt",
                coordinates=Coordinates(50.1, 8.7),
                country="DE",
                cell="europe",
                control=f"http://127.0.0.1:{control}",
                bus=f"nats://127.0.0.1:{bus}",
            ),
        ),
    )


async def both_polled(lines: AsyncIterator[dict[str, object]]) -> None:
    polled = {(await event(lines, "queue.polled"))["queue"] for _ in range(2)}
    assert polled == {"frankfurt.agents", "frankfurt.code"}


async def test_either_endpoint_has_the_pieces_of_both_processes(two: TwoProcesses, tmp_path: Path) -> None:
    async with (
        await EdgeClient.connect(two.topologies[0], application=application, watch=False) as first,
        await EdgeClient.connect(two.topologies[1], application=application, watch=False) as second,
    ):
        for number, client in enumerate((first, second)):
            gate = tmp_path / f"gate{number}"
            run = await client.start(Talker.run, str(gate), origin="frankfurt")
            heard: list[str] = []
            async with asyncio.timeout(90):
                async for piece in run.stream():
                    heard.append(piece.text)
                    if set(heard) == two.processes:
                        gate.touch()
            assert len(heard) == await run.result()


async def test_a_run_outlives_its_bus(two: TwoProcesses, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with (
        await EdgeClient.connect(two.topologies[0], application=application, watch=False) as client,
        asyncio.timeout(150),
    ):
        run = await client.start(Talker.run, str(gate), origin="frankfurt")
        stream = run.stream()
        await anext(stream)
        await two.bus.kill()
        before = len(await run.steps())
        while len(await run.steps()) <= before:
            await asyncio.sleep(0.05)
        await two.bus.start()
        # what was said meanwhile may come first; the run goes on until something newer is heard
        latest = len(await run.steps())
        async for piece in stream:
            if piece.sequence > latest:
                gate.touch()
        told = await run.result()
        steps = await run.steps()
        assert (len(steps), {step.error for step in steps}, {step.attempts for step in steps}) == (
            told,
            {None},
            {1},
        )
