"""A small topology: two cells, three regions; ``south`` has no control endpoint."""

from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Region, Topology

CELL_OF = {"east": "east-cell", "west": "west-cell", "south": "east-cell"}


def region(name: str, **values: object) -> Region:
    defaults: dict[str, object] = {
        "coordinates": Coordinates(50.1, 8.7),
        "country": "DE",
        "cell": CELL_OF[name],
        "control": None if name == "south" else f"http://127.0.0.1:1/{name}",
    }
    return Region.model_validate({"name": name, **defaults, **values})


def topology(*regions: Region, addresses: dict[str, str] | None = None) -> Topology:
    addresses = addresses or {}
    return Topology(
        cells=(
            Cell(name="east-cell", region="east", address=addresses.get("east-cell", "127.0.0.1:1")),
            Cell(name="west-cell", region="west", address=addresses.get("west-cell", "127.0.0.1:2")),
        ),
        regions=regions or (region("east"), region("west"), region("south")),
    )
