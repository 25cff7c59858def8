"""The servers of the bench, a cell a region."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from bench.wan_places import topology
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.regions import PLACES
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.topology import Topology


@contextlib.asynccontextmanager
async def cells(folder: Path) -> AsyncGenerator[Topology]:
    """A Temporal server in each of the regions."""
    async with Supervisor(folder) as supervisor:
        ports = free_ports(3 * len(PLACES))
        servers = {
            name: CellServer(name, *ports[3 * index : 3 * index + 3]) for index, name in enumerate(PLACES)
        }
        async with asyncio.TaskGroup() as starting:
            for server in servers.values():
                starting.create_task(start_cell(server, supervisor))
        yield topology({name: server.address for name, server in servers.items()})
