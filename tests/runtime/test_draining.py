"""An operator drains a region: new runs and steps go elsewhere, what runs there ends."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dev.topology_file import topology_file
from orchestrator.dispatch import RunPlanner
from orchestrator.fleet import Fleet
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Topology
from tests.cli.command import edgeward
from tests.dispatch.conftest import server, three_regions
from tests.runtime.waiting import Staying, undemanding


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.05)


async def test_a_drained_region_takes_nothing_new_and_ends_what_it_has(tmp_path: Path) -> None:
    europe = server("europe")
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        names = ("frankfurt", "dublin")
        controls = {name: f"http://127.0.0.1:{port}" for name, port in zip(names, free_ports(2), strict=True)}
        known = three_regions(europe.address, europe.address, dict(controls))
        topology = Topology(cells=known.cells[:1], regions=known.regions[:2], links=known.links)
        file = tmp_path / "topology.toml"
        file.write_text(topology_file(topology), encoding="utf-8")
        workers = {name: RegionWorker(topology, name, undemanding, warm_up=False) for name in names}
        running = [asyncio.create_task(worker.serve()) for worker in workers.values()]
        try:
            await check(topology, file, workers["dublin"])
        finally:
            for worker in workers.values():
                worker.stop()
            await asyncio.gather(*running)


async def check(topology: Topology, file: Path, dublin: RegionWorker) -> None:
    async with await EdgeClient.connect(topology, application=undemanding, watch=False) as edge:
        clients = {"europe": edge.cell("europe")}
        async with Fleet(topology, clients, interval=timedelta(milliseconds=200)) as fleet:

            def home() -> str:
                planner = RunPlanner(
                    topology,
                    agents=undemanding.agent_definitions,
                    steps=undemanding.step_definitions,
                    snapshot=fleet.snapshot,
                )
                return planner.plan("Staying", "frankfurt").home

            await until(lambda: fleet.view().region_states() == {"frankfurt": "up", "dublin": "up"})
            assert home() == "frankfurt"
            before = await edge.start(Staying.run, origin="frankfurt")
            await before.handle.query(Staying.begun)

            drained = await asyncio.to_thread(edgeward, "regions", "drain", "frankfurt", "-t", str(file))
            assert drained.returncode == 0, drained.stderr
            assert "frankfurt is draining" in drained.stdout
            await until(lambda: home() == "dublin")
            # the other homes hear of it from the region itself
            await until(lambda: dublin.away() == {"frankfurt": "draining"})

            await before.handle.signal(Staying.go_on)
            assert await before.result() == "frankfurt inline"

            again = await asyncio.to_thread(
                edgeward, "regions", "undrain", "frankfurt", "-t", str(file), "--output", "json"
            )
            assert json.loads(again.stdout) == {"region": "frankfurt", "cell": "europe", "draining": False}
            await until(lambda: home() == "frankfurt")
            await until(lambda: dublin.away() == {})


async def test_a_region_that_is_not_there_cannot_be_drained(tmp_path: Path) -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:1", {})
    file = tmp_path / "topology.toml"
    file.write_text(topology_file(topology), encoding="utf-8")
    unknown = edgeward("regions", "drain", "atlantis", "-t", str(file))
    assert unknown.returncode == 2
    assert "name one of frankfurt, dublin, ashburn" in unknown.stderr
    away = edgeward("regions", "drain", "frankfurt", "-t", str(file))
    assert away.returncode == 1
    assert "cell europe of region frankfurt does not answer" in away.stderr
