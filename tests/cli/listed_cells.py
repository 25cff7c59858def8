"""Two real cells with runs that nobody serves: one knows the search attributes, one does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dispatch.visibility.search_attributes import AGENT, HOME, PLACES, RESIDENCY

TOPOLOGY = """
[cells.europe]
address = "{europe}"
namespace = "europe"
region = "frankfurt"

[cells.america]
address = "{america}"
namespace = "america"
region = "ashburn"

[regions.frankfurt]
coordinates = [50.1, 8.7]
country = "DE"
cell = "europe"

[regions.ashburn]
coordinates = [39.0, -77.5]
country = "US"
cell = "america"
"""


@dataclass(frozen=True)
class ListedCells:
    """Where they are. ``europe`` knows the search attributes."""

    europe: Client
    america: Client
    topology: Path


@asynccontextmanager
async def listed_cells(folder: Path) -> AsyncIterator[ListedCells]:
    """Starts the cells; each run in them says in its id what it is."""
    europe = CellServer("europe", *free_ports(3))
    america = CellServer("america", *free_ports(3), registered=False)
    topology = folder / "topology.toml"
    topology.write_text(TOPOLOGY.format(europe=europe.address, america=america.address), encoding="utf-8")
    async with Supervisor(folder) as supervisor:
        await asyncio.gather(start_cell(europe, supervisor), start_cell(america, supervisor))
        cells = ListedCells(
            europe=await Client.connect(europe.address, namespace="europe"),
            america=await Client.connect(america.address, namespace="america"),
            topology=topology,
        )
        await start_runs(cells)
        yield cells


async def start_runs(cells: ListedCells) -> None:
    """In this order; waits until the indexes know them."""
    await cells.america.start_workflow("Visit", id="visit-ordinary", task_queue="visits")
    await cells.europe.start_workflow(
        "ask", id="ask-ended", task_queue="frankfurt.agents", search_attributes=tried("ask")
    )
    await cells.europe.get_workflow_handle("ask-ended").terminate()
    await cells.america.start_workflow("ask", id="ask-unlisted", task_queue="ashburn.agents")
    await cells.europe.start_workflow("Visit", id="visit-european", task_queue="visits")
    await cells.europe.start_workflow(
        "plan", id="plan-abroad", task_queue="frankfurt.agents", search_attributes=tried("plan", "ashburn")
    )
    async with asyncio.timeout(30):
        while await known(cells.europe) < 3 or await known(cells.america) < 2:
            await asyncio.sleep(0.05)
        while not await ended(cells.europe):
            await asyncio.sleep(0.05)


def tried(agent: str, *places: str) -> TypedSearchAttributes:
    return TypedSearchAttributes(
        [
            SearchAttributePair(AGENT, agent),
            SearchAttributePair(HOME, "frankfurt"),
            SearchAttributePair(RESIDENCY, "EU"),
            SearchAttributePair(PLACES, ["frankfurt", *places]),
        ]
    )


async def known(client: Client) -> int:
    return (await client.count_workflows()).count


async def ended(client: Client) -> int:
    return (await client.count_workflows('ExecutionStatus = "Terminated"')).count
