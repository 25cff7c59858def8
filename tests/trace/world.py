"""Three regions on one real Temporal server, for runs that go around the world."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Offer, Region, Topology
from tests.trace.page_agents import application


def region(name: str, at: tuple[float, float], country: str, *tools: str) -> Region:
    return Region(
        name=name,
        coordinates=Coordinates(*at),
        country=country,
        cell="world",
        offers=tuple(
            Offer(kind="tool", name=tool, endpoint=f"http://127.0.0.1:1/{tool}", slots=1) for tool in tools
        ),
        control=f"http://127.0.0.1:{free_ports(1)[0]}",
    )


@asynccontextmanager
async def started_world(folder: Path) -> AsyncIterator[EdgeClient]:
    """A client of the regions, each with a worker."""
    server = CellServer("world", *free_ports(3))
    async with Supervisor(folder) as supervisor:
        await start_cell(server, supervisor)
        topology = Topology(
            cells=(Cell(name="world", region="frankfurt", address=server.address, namespace="world"),),
            regions=(
                region("frankfurt", (50.1, 8.7), "DE"),
                region("ashburn", (39.0, -77.5), "US", "archive"),
                region("singapore", (1.35, 103.8), "SG", "press", "archive"),
            ),
        )
        workers = [RegionWorker(topology, one.name, application, warm_up=False) for one in topology.regions]
        serving = [asyncio.create_task(worker.serve()) for worker in workers]
        async with await EdgeClient.connect(topology, application=application, watch=False) as client:
            yield client
        for worker in workers:
            worker.stop()
        await asyncio.gather(*serving)
