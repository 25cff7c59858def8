"""A cell is killed and comes back from its file: each run ends once, and its caller gets one answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError
from temporalio.worker import Replayer
from typer.testing import CliRunner

from orchestrator import EdgeClient, EdgewardPlugin
from orchestrator.cli.main import app
from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.topology_file import write_topology
from orchestrator.dev.wan import DelayProxy, Fault
from orchestrator.dispatch import connect_cell
from orchestrator.errors import CellUnavailableError
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Region, Topology
from tests.client import errands
from tests.client.errands import Clerk, Errand, Patient, application

EUROPE, AMERICA = "europe", "america"


@dataclass
class World:
    topology: Topology
    servers: dict[str, CellServer]
    processes: dict[str, ChildProcess]
    supervisor: Supervisor
    folder: Path

    async def kill(self, cell: str) -> None:
        self.processes[cell].kill()
        await until(lambda: has_ended(self.processes[cell]))

    async def bring_back(self, cell: str) -> None:
        self.processes[cell] = await start_cell(self.servers[cell], self.supervisor)


def two_regions(servers: dict[str, CellServer], controls: list[int]) -> Topology:
    places = {
        "frankfurt": (EUROPE, Coordinates(50.1, 8.7), "DE"),
        "ashburn": (AMERICA, Coordinates(39.0, -77.5), "US"),
    }
    return Topology(
        cells=tuple(
            Cell(name=cell, region=region, address=servers[cell].address, namespace=cell)
            for region, (cell, _, _) in places.items()
        ),
        regions=tuple(
            Region(
                name=region,
                coordinates=coordinates,
                country=country,
                cell=cell,
                control=f"http://127.0.0.1:{port}",
            )
            for (region, (cell, coordinates, country)), port in zip(places.items(), controls, strict=True)
        ),
    )


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("lost-cells")
    servers = {
        cell: CellServer(cell, *free_ports(3), database=folder / f"{cell}.sqlite")
        for cell in (EUROPE, AMERICA)
    }
    async with Supervisor(folder) as supervisor:
        started = await asyncio.gather(*(start_cell(server, supervisor) for server in servers.values()))
        topology = two_regions(servers, free_ports(2))
        workers = [RegionWorker(topology, region.name, application) for region in topology.regions]
        serving = [asyncio.create_task(worker.serve()) for worker in workers]
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(60):
            for region in topology.regions:
                while not await is_ready(http, f"{region.control}/readyz"):
                    await asyncio.sleep(0.05)
        yield World(topology, servers, dict(zip(servers, started, strict=True)), supervisor, folder)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*serving)


async def is_ready(http: httpx.AsyncClient, url: str) -> bool:
    try:
        answer = await http.get(url)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and set(answer.json()["cells"].values()) == {"polling"}


async def has_ended(process: ChildProcess) -> bool:
    return not process.running


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await true():
            await asyncio.sleep(0.1)


async def has_come(times: int, *orders: str) -> bool:
    return all(errands.arrived.get(order, 0) >= times for order in orders)


async def at_the_gate(*orders: str) -> None:
    await until(lambda: has_come(1, *orders))


async def is_in(cell: Client, run: str, status: WorkflowExecutionStatus) -> bool:
    try:
        return (await cell.get_workflow_handle(run).describe()).status is status
    except RPCError:
        return False


async def has_ended_in(cell: Client, run: str) -> bool:
    return not await is_in(cell, run, WorkflowExecutionStatus.RUNNING)


async def reconciled_by_command(world: World) -> list[dict[str, str]]:
    file = write_topology(world.topology, world.folder / "topology.toml")
    words = ["cells", "reconcile", "--topology", str(file), "--output", "json"]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def booked_once(order: str) -> bool:
    return len(errands.effects[order]) == errands.EFFECTS


async def test_a_cell_is_lost_and_comes_back(world: World) -> None:
    async with await EdgeClient.connect(world.topology, application=application, watch=False) as edge:
        restarted = await edge.start(Errand.run, "r1", origin="frankfurt")
        submitted = edge.submit(Errand.run, "r2", origin="frankfurt")
        waiting = await edge.start(Patient.run, "w1", origin="frankfurt")
        waiting_submitted = edge.submit(Patient.run, "w2", origin="frankfurt")
        waiting_result = asyncio.create_task(waiting.result())
        assert restarted.plan.cell == EUROPE
        restarted_result = asyncio.create_task(restarted.result())
        await at_the_gate("r1", "r2", "w1", "w2")

        await world.kill(EUROPE)

        with_next = await edge.start(Patient.run, "new", origin="frankfurt")
        assert with_next.plan.cell == AMERICA, "the next cell takes new runs"
        errands.gate("new").set()
        assert await with_next.result() == errands.answer("new")

        for order in ("r1", "r2"):
            errands.gate(order).set()
        assert await restarted_result == errands.answer("r1")
        assert await submitted.result() == errands.answer("r2")
        for run in (restarted, submitted):
            assert (run.restarts, run.plan.cell) == (1, AMERICA)
        assert booked_once("r1")
        assert booked_once("r2")
        assert max(errands.effects["r1"].values()) > 1, "both runs asked for it, under one key"
        assert not waiting_result.done()

        await world.bring_back(EUROPE)

        for order in ("w1", "w2"):
            errands.gate(order).set()
        assert await waiting_result == errands.answer("w1")
        assert await waiting_submitted.result() == errands.answer("w2")
        assert waiting.restarts == waiting_submitted.restarts == 0
        for run in (restarted, submitted):
            await until(lambda run=run: is_in(edge.cell(EUROPE), run.id, WorkflowExecutionStatus.TERMINATED))

        assert booked_once("r1")
        assert booked_once("r2")

        told = await reconciled_by_command(world)
        found = {(row["run"], row["cell"], row["outcome"], row["standing_status"]) for row in told}
        assert {(run.id, EUROPE, "had ended", "completed") for run in (restarted, submitted)} <= found
        assert not {row["run"] for row in told} & {waiting.id, waiting_submitted.id}
        assert {row["cell"] for row in told} == {EUROPE}, "what stands is never ended from the other side"

        history = await restarted.handle.fetch_history()
    plugin = EdgewardPlugin(world.topology, application=application)
    await Replayer(workflows=[Errand, Clerk], plugins=[plugin]).replay_workflow(history)


async def test_no_cell_is_left(world: World) -> None:
    away = world.topology.model_copy(
        update={
            "cells": tuple(
                cell.model_copy(update={"address": f"127.0.0.1:{port}"})
                for cell, port in zip(world.topology.cells, free_ports(2), strict=True)
            )
        }
    )
    async with await EdgeClient.connect(away, application=application, watch=False) as edge:
        with pytest.raises(CellUnavailableError, match="no cell that the run may use answers"):
            await edge.start(Errand.run, "nowhere", origin="frankfurt")


async def test_a_client_is_cut_off_from_a_cell_that_lives(world: World) -> None:
    europe = world.topology.cell(EUROPE)
    assert europe.address is not None
    async with DelayProxy(europe.address, timedelta(milliseconds=2)) as proxy:
        seen = (europe.model_copy(update={"address": proxy.address}), world.topology.cell(AMERICA))
        topology = world.topology.model_copy(update={"cells": seen})
        direct = await connect_cell(europe)
        async with await EdgeClient.connect(topology, application=application, watch=False) as edge:
            ends, goes_on = [
                await edge.start(Errand.run, order, origin="frankfurt") for order in ("p1", "p2")
            ]
            results = [asyncio.create_task(run.result()) for run in (ends, goes_on)]
            await at_the_gate("p1", "p2")

            proxy.inflict(Fault.DROP)

            with pytest.raises(CellUnavailableError, match=r"did not confirm run .* may have accepted it"):
                await edge.start(Patient.run, "unknown", origin="frankfurt")
            await until(lambda: has_come(2, "p1", "p2"))
            errands.gate("p1").set()
            assert await results[0] == errands.answer("p1")
            assert (ends.restarts, ends.plan.cell) == (1, AMERICA)

            proxy.heal()

            await until(lambda: is_in(direct, goes_on.id, WorkflowExecutionStatus.TERMINATED))
            errands.gate("p2").set()
            assert await results[1] == errands.answer("p2")
            # the original of the other may have ended by itself before: its result does not count
            await until(lambda: has_ended_in(direct, ends.id))
            assert booked_once("p1")
            assert booked_once("p2")
