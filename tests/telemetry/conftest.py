"""Two regions on a real Temporal server, their workers in processes of their own, and a collector.

Frankfurt's worker and the clients tell over HTTP, Dublin's over gRPC. Frankfurt keeps one run in memory:
further ones make each other replay.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dev.topology_file import topology_file
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Offer, Region, Topology
from tests.backends.double import Double, as_json
from tests.dispatch.conftest import server
from tests.telemetry.collector import Collector, grpc_collector, http_collector
from tests.telemetry.processes import Traced


def regions(cell: str, echo: str) -> Topology:
    ports = free_ports(2)
    desk = Offer(kind="tool", name="desk", endpoint="http://127.0.0.1:1/desk")
    offers = (
        Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press"),
        Offer(kind="tool", name="echo", endpoint=echo),
    )
    places = (
        ("frankfurt", Coordinates(50.1, 8.7), "DE", (desk,)),
        ("dublin", Coordinates(53.3, -6.3), "IE", offers),
    )
    return Topology(
        cells=(Cell(name="europe", region="frankfurt", address=cell, namespace="europe"),),
        regions=tuple(
            Region(
                name=name,
                coordinates=coordinates,
                country=country,
                cell="europe",
                offers=here,
                control=f"http://127.0.0.1:{port}",
            )
            for (name, coordinates, country, here), port in zip(places, ports, strict=True)
        ),
    )


@pytest.fixture(scope="session")
async def traced(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Traced]:
    folder: Path = tmp_path_factory.mktemp("telemetry")
    cell, collector, echo = server("europe"), Collector(), Double([as_json({"result": "echoed"})])
    listening = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = listening.sockets[0].getsockname()[1]
    async with (
        Supervisor(folder) as supervisor,
        http_collector(collector) as http,
        grpc_collector(collector) as grpc,
    ):
        await start_cell(cell, supervisor)
        file = folder / "topology.toml"
        file.write_text(topology_file(regions(cell.address, f"{echo.url}/echo")), encoding="utf-8")
        async with AsyncExitStack() as workers:
            fleet = Traced(file, collector, http, grpc, echo, folder / "workers.jsonl", workers)
            await fleet.start("frankfurt", fleet.over_http(), "--cached-runs", "1")
            await fleet.start("dublin", fleet.over_grpc())
            yield fleet
    listening.close()


@pytest.fixture(scope="session")
def collector(traced: Traced) -> Collector:
    return traced.collector
