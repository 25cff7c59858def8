"""The regions of the embedded stack: real places with their real round trip times.

Places are those of AWS regions of the same names. Round trip times are medians (p50) of one year
between these AWS regions, published by cloudping.co. They are measured in each direction, and
differ a little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from orchestrator.dev.embedding_server import MODEL as EMBEDDING_MODEL
from orchestrator.dev.model_server import MODEL as CHAT_MODEL
from orchestrator.dev.model_server import SLOTS
from orchestrator.dev.tool_functions import OVER_HTTP, OVER_MCP
from orchestrator.errors import StackError
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Link, Offer, Region, Topology


class Place(NamedTuple):
    """Where a region is."""

    city: str
    country: str
    coordinates: Coordinates


PLACES: Mapping[str, Place] = {
    "eu-central": Place("Frankfurt", "DE", Coordinates(50.1109, 8.6821)),
    "us-east": Place("Ashburn", "US", Coordinates(39.0458, -77.4874)),
    "ap-southeast": Place("Singapore", "SG", Coordinates(1.3521, 103.8198)),
    "sa-east": Place("São Paulo", "BR", Coordinates(-23.5558, -46.6396)),
    "ap-northeast": Place("Tokyo", "JP", Coordinates(35.6762, 139.6503)),
}
"""Every region that the stack can start."""

DEFAULT_REGIONS = ("eu-central", "us-east", "ap-southeast")
"""Three regions on three continents."""

RTT_MS: Mapping[tuple[str, str], float] = {
    ("eu-central", "us-east"): 92.612,
    ("eu-central", "ap-southeast"): 160.587,
    ("eu-central", "sa-east"): 203.948,
    ("eu-central", "ap-northeast"): 227.0777,
    ("us-east", "eu-central"): 93.066,
    ("us-east", "ap-southeast"): 219.112,
    ("us-east", "sa-east"): 115.21,
    ("us-east", "ap-northeast"): 149.3758,
    ("ap-southeast", "eu-central"): 161.262,
    ("ap-southeast", "us-east"): 218.6138,
    ("ap-southeast", "sa-east"): 327.4,
    ("ap-southeast", "ap-northeast"): 70.734,
    ("sa-east", "eu-central"): 204.858,
    ("sa-east", "us-east"): 115.385,
    ("sa-east", "ap-southeast"): 327.396,
    ("sa-east", "ap-northeast"): 258.052,
    ("ap-northeast", "eu-central"): 227.633,
    ("ap-northeast", "us-east"): 149.152,
    ("ap-northeast", "ap-southeast"): 70.466,
    ("ap-northeast", "sa-east"): 257.37,
}
"""Source and target to milliseconds. Inside a region, loopback itself stands for the distance."""

TOOLS = (*OVER_HTTP, *OVER_MCP)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything of a stack listens, on 127.0.0.1."""

    model: int
    embedding: int
    tools: int
    cells: Mapping[str, int]
    """Region to the gRPC port of its cell's server."""

    uis: Mapping[str, int]
    """Region to the port of its cell's web UI; empty without one."""

    controls: Mapping[str, int]
    """Region to the port of its worker's control endpoint."""


def check_regions(names: Sequence[str]) -> None:
    """Make sure that these are regions the stack knows, each once.

    Raises:
        StackError: They are not, or there are none.
    """
    if not names:
        raise StackError(f"the stack needs at least one region; choose from {', '.join(PLACES)}")
    for name in names:
        if name not in PLACES:
            raise StackError(f"unknown region {name!r}; choose from {', '.join(PLACES)}")
        if names.count(name) > 1:
            raise StackError(f"region {name!r} is named twice; remove one")


def embedded_topology(names: Sequence[str], ports: Ports, collections: Path) -> Topology:
    """The topology of a stack: a cell a region, models and the handbook everywhere, tools in some.

    Args:
        names: The regions, at least one.
        ports: Where everything listens.
        collections: Folder below which each region keeps its collections.

    Raises:
        StackError: A region is unknown or named twice.
    """
    check_regions(names)
    return Topology(
        cells=tuple(
            Cell(
                name=name,
                region=name,
                address=f"127.0.0.1:{ports.cells[name]}",
                namespace=name,
                ui=f"http://127.0.0.1:{ports.uis[name]}/namespaces/{name}/workflows"
                if name in ports.uis
                else None,
            )
            for name in names
        ),
        regions=tuple(
            Region(
                name=name,
                coordinates=PLACES[name].coordinates,
                country=PLACES[name].country,
                cell=name,
                control=f"http://127.0.0.1:{ports.controls[name]}",
                offers=_offers(index, names, ports, collections),
            )
            for index, name in enumerate(names)
        ),
        links=tuple(
            Link(source=source, target=target, rtt_ms=rtt_ms)
            for (source, target), rtt_ms in RTT_MS.items()
            if source in names and target in names
        ),
        source="the embedded stack",
    )


def described_topology() -> Topology:
    """The default regions as they are described, for planning: nothing runs at its addresses."""
    nowhere: dict[str, int] = dict.fromkeys(DEFAULT_REGIONS, 0)
    ports = Ports(model=0, embedding=0, tools=0, cells=nowhere, uis={}, controls=nowhere)
    return embedded_topology(DEFAULT_REGIONS, ports, Path(".edgeward"))


def _offers(index: int, names: Sequence[str], ports: Ports, collections: Path) -> tuple[Offer, ...]:
    folder = (collections / names[index] / "handbook").resolve()
    models = (
        Offer(
            kind="model",
            name="chat",
            endpoint=f"http://127.0.0.1:{ports.model}/v1",
            target=CHAT_MODEL,
            slots=SLOTS,
        ),
        Offer(
            kind="model",
            name="embed",
            endpoint=f"http://127.0.0.1:{ports.embedding}/v1",
            target=EMBEDDING_MODEL,
        ),
        Offer(kind="collection", name="handbook", endpoint=folder.as_uri()),
    )
    return (*models, *(_tool(name, ports.tools) for name in tools_of(index, len(names))))


def tools_of(index: int, count: int) -> list[str]:
    """The tools that the region at this position offers: each tool is in two regions that follow.

    So with three regions or more, some steps have to leave the place that is best for the others.
    """
    return [name for number, name in enumerate(TOOLS) if index in {number % count, (number + 1) % count}]


def _tool(name: str, port: int) -> Offer:
    if name in OVER_MCP:
        return Offer(kind="tool", name=name, endpoint=f"http://127.0.0.1:{port}/mcp", protocol="mcp")
    return Offer(kind="tool", name=name, endpoint=f"http://127.0.0.1:{port}/tools/{name}")
