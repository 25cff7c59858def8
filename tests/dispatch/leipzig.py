"""One region of its own in the first cell of the session, with a press that has a price and one slot."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator import EdgeClient
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Offer, Region, Topology
from tests.dispatch.spenders import application

HOME = "leipzig"


@pytest.fixture(scope="module")
def topology(topology: Topology) -> Topology:
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press", price=0.1, slots=1)
    europe = topology.cell("europe")
    return Topology(
        cells=(Cell(name="europe", region=HOME, address=europe.address, namespace=europe.namespace),),
        regions=(
            Region(
                name=HOME, coordinates=Coordinates(51.3, 12.4), country="DE", cell="europe", offers=(press,)
            ),
        ),
    )


@pytest.fixture(scope="module")
async def worker(topology: Topology) -> AsyncIterator[RegionWorker]:
    worker = RegionWorker(topology, HOME, application, warm_up=False)
    serving = asyncio.create_task(worker.serve())
    yield worker
    worker.stop()
    await serving


@pytest.fixture(scope="module")
async def edge(topology: Topology, worker: RegionWorker) -> AsyncIterator[EdgeClient]:
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        yield client
