"""One region with a real cell for all tests of traces."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Offer, Region, Topology
from tests.trace.agents import application
from tests.trace.plain_workflows import QUEUE, WORKFLOWS, add


@pytest.fixture(scope="session")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EdgeClient]:
    """One region whose press has one slot."""
    server = CellServer("traced", *free_ports(3))
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press", slots=1)
    place = Region(
        name="traced",
        coordinates=Coordinates(50.1, 8.7),
        country="DE",
        cell="traced",
        offers=(press,),
        control=f"http://127.0.0.1:{free_ports(1)[0]}",
    )
    folder: Path = tmp_path_factory.mktemp("traced")
    async with Supervisor(folder) as supervisor:
        await start_cell(server, supervisor)
        cell = Cell(name="traced", region="traced", address=server.address, namespace="traced")
        topology = Topology(cells=(cell,), regions=(place,))
        worker = RegionWorker(topology, "traced", application, warm_up=False)
        serving = asyncio.create_task(worker.serve())
        async with await EdgeClient.connect(topology, application=application, watch=False) as client:
            yield client
        worker.stop()
        await serving


@pytest.fixture(scope="session")
async def plain(traced: EdgeClient) -> AsyncIterator[Client]:
    """A client without the plugin, and a worker that serves ordinary workflows."""
    cell = traced.topology.cells[0]
    assert cell.address is not None
    client = await Client.connect(cell.address, namespace=cell.namespace or "default")
    async with Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=[add]):
        yield client
