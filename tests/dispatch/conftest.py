"""Three regions on two real Temporal servers: frankfurt and dublin share one, ashburn has its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Link, Offer, Region, Topology
from tests.dispatch.agents import application


def server(name: str) -> CellServer:
    port, http_port, metrics_port = free_ports(3)
    return CellServer(name, port, http_port, metrics_port)


def three_regions(europe: str, america: str, controls: dict[str, str | None]) -> Topology:
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press")
    return Topology(
        cells=(
            Cell(name="europe", region="frankfurt", address=europe, namespace="europe"),
            Cell(name="america", region="ashburn", address=america, namespace="america"),
        ),
        regions=(
            Region(
                name="frankfurt",
                coordinates=Coordinates(50.1, 8.7),
                country="DE",
                cell="europe",
                control=controls.get("frankfurt"),
            ),
            Region(
                name="dublin",
                coordinates=Coordinates(53.3, -6.3),
                country="IE",
                cell="europe",
                offers=(press,),
                control=controls.get("dublin"),
            ),
            Region(
                name="ashburn",
                coordinates=Coordinates(39.0, -77.5),
                country="US",
                cell="america",
                offers=(press,),
                control=controls.get("ashburn"),
            ),
        ),
        links=(Link(source="frankfurt", target="dublin", rtt_ms=25.0),),
    )


@pytest.fixture(scope="session")
async def topology(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Topology]:
    folder: Path = tmp_path_factory.mktemp("cells")
    europe, america = server("europe"), server("america")
    async with Supervisor(folder) as supervisor:
        await asyncio.gather(start_cell(europe, supervisor), start_cell(america, supervisor))
        controls = dict(
            zip(
                ("frankfurt", "dublin", "ashburn"),
                (f"http://127.0.0.1:{port}" for port in free_ports(3)),
                strict=True,
            )
        )
        yield three_regions(europe.address, america.address, controls)


@pytest.fixture(scope="session")
async def workers(topology: Topology) -> AsyncIterator[dict[str, RegionWorker]]:
    """A worker a region, polling both cells."""
    workers = {region.name: RegionWorker(topology, region.name, application) for region in topology.regions}
    serving = [asyncio.create_task(worker.serve()) for worker in workers.values()]
    async with httpx.AsyncClient() as http, asyncio.timeout(60):
        for region in topology.regions:
            while not await all_polling(http, f"{region.control}/readyz"):
                await asyncio.sleep(0.05)
    yield workers
    for worker in workers.values():
        worker.stop()
    await asyncio.gather(*serving)


async def all_polling(http: httpx.AsyncClient, url: str) -> bool:
    try:
        answer = await http.get(url)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and set(answer.json()["cells"].values()) == {"polling"}


@pytest.fixture(scope="session")
async def edge(topology: Topology, workers: dict[str, RegionWorker]) -> AsyncIterator[EdgeClient]:
    # no probes: on loopback all regions are equally near, and the tests are about what is planned
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        yield client


@pytest.fixture(scope="session")
async def unregistered(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CellServer]:
    """A server on which nobody has run ``edgeward setup``."""
    server = CellServer("bare", *free_ports(3), registered=False)
    async with Supervisor(tmp_path_factory.mktemp("bare")) as supervisor:
        await start_cell(server, supervisor)
        yield server


async def namespace(address: str, name: str) -> Client:
    """Makes a namespace on a server, and a client of it."""
    client = await Client.connect(address, namespace=name)
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86_400))
    )
    asked = DescribeNamespaceRequest(namespace=name)
    async with asyncio.timeout(30):
        while True:  # the parts of a server hear of it one after another
            try:
                await client.workflow_service.describe_namespace(asked)
            except RPCError:
                await asyncio.sleep(0.05)
            else:
                return client
