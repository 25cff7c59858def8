"""A fleet of which one region and its cell are there, and another region and its cell are not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.topology_file import write_topology
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Offer, Region, Topology
from tests.trace.agents import application


@pytest.fixture(scope="session")
async def file(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A topology of two regions and cells, of which one is there."""
    folder = tmp_path_factory.mktemp("top")
    server = CellServer("here", *free_ports(3))
    control, nobody = free_ports(2)
    regions = (
        Region(
            name="away",
            coordinates=Coordinates(1.3, 103.8),
            country="SG",
            cell="gone",
            control=f"http://127.0.0.1:{nobody}",
        ),
        Region(
            name="here",
            coordinates=Coordinates(50.1, 8.7),
            country="DE",
            cell="here",
            control=f"http://127.0.0.1:{control}",
            offers=(Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press", slots=1),),
        ),
    )
    cells = (
        Cell(name="gone", region="away", address=f"127.0.0.1:{nobody}"),
        Cell(name="here", region="here", address=server.address, namespace="here"),
    )
    topology = Topology(cells=cells, regions=regions)
    async with Supervisor(folder) as supervisor:
        await start_cell(server, supervisor)
        worker = RegionWorker(topology, "here", application, warm_up=False)
        serving = asyncio.create_task(worker.serve())
        yield write_topology(topology, folder / "topology.toml")
        worker.stop()
        await serving
