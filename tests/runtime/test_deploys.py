"""New builds of workers, and restarts of all of them, under running work; processes and a real server."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dev.topology_file import topology_file
from orchestrator.dispatch import Build, BuildStatus, builds_of, deployment_name, set_current
from orchestrator.errors import CellUnavailableError, ConfigurationError, DeploymentError
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Region, Topology
from tests.dispatch.conftest import server
from tests.runtime.build_a import Order, application

CHECKOUT = Path(__file__).resolve().parent.parent.parent
QUEUES = {"frankfurt.agents", "frankfurt.code"}


@dataclass
class Fleet:
    """The workers of one region, as processes, on one server."""

    topology: Topology
    file: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, application: str, *more: str) -> asyncio.subprocess.Process:
        """A worker whose queues the server has seen polled."""
        [port] = free_ports(1)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator.cli", "worker", "run", application),
            *("--region", "frankfurt", "--topology", str(self.file), "--log-format", "json"),
            *("--listen", f"127.0.0.1:{port}", *more),
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        polled: set[str] = set()
        async with asyncio.timeout(60):
            while polled != QUEUES:
                line = await self._event(process)
                if line["event"] == "queue.polled":
                    polled.add(line["queue"])
        return process

    async def stop(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM: it drains and ends."""
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert process.stderr is not None
            await process.stderr.read()
            assert await process.wait() == 0

    async def edgeward(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "orchestrator.cli", *words, "--topology", str(self.file)),
            cwd=CHECKOUT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, notes = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode(), notes.decode()

    async def client(self) -> Client:
        return await Client.connect(self.topology.cells[0].address or "", namespace="europe")

    async def builds(self) -> dict[str, str]:
        found = await builds_of(await self.client(), deployment_name("frankfurt"))
        return {status.build: status.state for status in found}

    async def seen(self, build: str) -> None:
        """Returns when the server has registered the build: it does so after its first poll."""
        async with asyncio.timeout(30):
            while build not in await self.builds():
                await asyncio.sleep(0.05)

    async def _event(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stderr is not None
        async for line in process.stderr:
            if line.startswith(b"{"):
                return json.loads(line)
        raise AssertionError("the worker ended")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    europe = server("europe")
    topology = Topology(
        cells=(Cell(name="europe", region="frankfurt", address=europe.address, namespace="europe"),),
        regions=(Region(name="frankfurt", coordinates=Coordinates(50.1, 8.7), country="DE", cell="europe"),),
    )
    file = tmp_path / "topology.toml"
    file.write_text(topology_file(topology), encoding="utf-8")
    fleet = Fleet(topology, file)
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        try:
            yield fleet
        finally:
            for process in fleet.processes:
                if process.returncode is None:
                    process.kill()
                await process.wait()


@asynccontextmanager
async def edge_of(fleet: Fleet) -> AsyncIterator[EdgeClient]:
    async with await EdgeClient.connect(fleet.topology, application=application, watch=False) as edge:
        yield edge


async def test_runs_stay_on_the_build_that_they_began_on(fleet: Fleet) -> None:
    first = await fleet.start("tests.runtime.build_a:application", "--build-id", "a.1")
    await fleet.seen("a.1")
    code, _, notes = await fleet.edgeward("deploy", "set-current", "a.1", "--all")
    assert code == 0, notes
    async with edge_of(fleet) as edge, asyncio.timeout(90):
        old = await edge.start(Order.run, origin="frankfurt")
        while len(await old.steps()) < 1:
            await asyncio.sleep(0.05)
        await fleet.start("tests.runtime.build_b:application", "--build-id", "b.1")
        await fleet.seen("b.1")
        assert await fleet.builds() == {"b.1": "inactive", "a.1": "current"}
        code, _, notes = await fleet.edgeward("deploy", "set-current", "b.1", "--region", "frankfurt")
        assert (code, "region frankfurt, cell europe: b.1 is current" in notes) == (0, True)
        new = await edge.start(Order.run, origin="frankfurt")
        for run in (old, new):
            await run.handle.signal(Order.release)
        assert await old.result() == "a finished by a"
        assert await new.result() == "b finished by b"
        code, listed, _ = await fleet.edgeward("deploy", "list", "--output", "json")
        assert code == 0
        states = {one["build"]: one["state"] for one in json.loads(listed)}
        assert states["b.1"] == "current"
        assert states["a.1"] in {"draining", "drained"}
        # nothing needs the first build any longer
        await fleet.stop(first)
        last = edge.submit(Order.run, origin="frankfurt")
        await fleet_signal(edge, last.id)
        assert await last.result() == "b finished by b"


async def fleet_signal(edge: EdgeClient, workflow_id: str) -> None:
    """Signals a submitted run once it is there."""
    handle = edge.cell("europe").get_workflow_handle(workflow_id)
    async with asyncio.timeout(30):
        while not [run async for run in edge.cell("europe").list_workflows(f"WorkflowId = '{workflow_id}'")]:
            await asyncio.sleep(0.05)
    await handle.signal(Order.release)


async def test_without_a_build_everything_stays_as_it_was(fleet: Fleet) -> None:
    await fleet.start("tests.runtime.build_a:application")
    async with edge_of(fleet) as edge, asyncio.timeout(60):
        run = await edge.start(Order.run, origin="frankfurt")
        await run.handle.signal(Order.release)
        assert await run.result() == "a finished by a"
    assert await fleet.builds() == {}


RUNS = 60


async def test_a_rolling_restart_fails_no_run(fleet: Fleet) -> None:
    old = [await fleet.start("tests.runtime.build_a:application") for _ in range(2)]
    async with edge_of(fleet) as edge, asyncio.timeout(150):
        restarted = asyncio.Event()

        async def one_after_another() -> list[str]:
            """Runs, while and after the workers are restarted."""
            results: list[str] = []
            while not restarted.is_set() or len(results) < RUNS // 4:
                run = await edge.start(Order.run, origin="frankfurt")
                await run.handle.signal(Order.release)
                results.append(await run.result())
            return results

        loads = [asyncio.create_task(one_after_another()) for _ in range(4)]
        for process in old:
            await fleet.start("tests.runtime.build_a:application")
            await fleet.stop(process)
        restarted.set()
        results = [result for load in loads for result in await load]
    assert len(results) >= RUNS
    assert set(results) == {"a finished by a"}


async def test_a_build_that_nobody_has_seen_is_refused(fleet: Fleet) -> None:
    client = await fleet.client()
    with pytest.raises(DeploymentError, match="build x cannot be current in deployment edgeward-frankfurt"):
        await set_current(client, "edgeward-frankfurt", "x")
    code, _, notes = await fleet.edgeward("deploy", "set-current", "x", "--all")
    assert (code, "start its workers first" in notes) == (1, True)
    for words, expected in (
        (("set-current", "x"), "say which regions"),
        (("set-current", "x", "--region", "mars"), "region 'mars' is not in"),
    ):
        code, _, notes = await fleet.edgeward("deploy", *words)
        assert (code, expected in notes) == (2, True)


async def test_a_cell_that_is_down_is_told() -> None:
    client = await Client.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(CellUnavailableError):
        await builds_of(client, "edgeward-frankfurt")


@pytest.mark.parametrize(
    ("build", "deployment"),
    [("", "edgeward"), ("a b", "edgeward"), ("a", ""), ("a", "edge.ward"), ("a", "é")],
)
def test_what_cannot_be_a_build_is_told(build: str, deployment: str) -> None:
    with pytest.raises(ConfigurationError):
        Build(build, deployment)


def test_a_status_is_a_value() -> None:
    assert BuildStatus("a", "current") == BuildStatus("a", "current")
