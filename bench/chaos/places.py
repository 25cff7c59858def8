"""The fleet that is broken: two cells, three regions in the EU and one outside.

Round trip times are medians (p50) of one year between the AWS regions in the same places, published by
cloudping.co; they are measured in each direction, and differ a little.
"""

from collections.abc import Mapping

from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Link, Offer, Region, Topology

CENTRAL, WEST = "central", "west"
"""The cells: the first has its server in Frankfurt, the second in Dublin, so that runs that are bound to the
EU have a cell to go to when they lose the other."""

FRANKFURT, PARIS, DUBLIN, ASHBURN = "frankfurt", "paris", "dublin", "ashburn"

HOME = FRANKFURT
"""Of the runs of users in Frankfurt. It has no archive, so that one step of each run is far away."""

FAR = PARIS
"""Where that step is placed, and the sub-agent's home, while all is well."""

STANDBY = DUBLIN
"""What comes next, for all steps and as a home; slower, and farther away."""

COUNTRY: Mapping[str, str] = {FRANKFURT: "DE", PARIS: "FR", DUBLIN: "IE", ASHBURN: "US"}

INSIDE: Mapping[str, frozenset[str]] = {
    "EU": frozenset({FRANKFURT, PARIS, DUBLIN}),
}
"""Residency to the regions in which it allows a run's data."""

SERVER: Mapping[str, str] = {CENTRAL: FRANKFURT, WEST: DUBLIN}
"""Where each cell's server stands."""

CELL: Mapping[str, str] = {FRANKFURT: CENTRAL, PARIS: CENTRAL, DUBLIN: WEST, ASHBURN: WEST}

OFFERS: Mapping[str, tuple[str, ...]] = {
    FRANKFURT: ("chat",),
    PARIS: ("archive",),
    DUBLIN: ("chat", "archive"),
    ASHBURN: ("chat", "archive"),
}

_COORDINATES: Mapping[str, Coordinates] = {
    FRANKFURT: Coordinates(50.1109, 8.6821),
    PARIS: Coordinates(48.8566, 2.3522),
    DUBLIN: Coordinates(53.3498, -6.2603),
    ASHBURN: Coordinates(39.0458, -77.4874),
}

_RTT_MS: Mapping[tuple[str, str], float] = {
    (FRANKFURT, PARIS): 12.172,
    (FRANKFURT, DUBLIN): 26.86,
    (FRANKFURT, ASHBURN): 92.612,
    (PARIS, FRANKFURT): 12.703,
    (PARIS, DUBLIN): 20.016,
    (PARIS, ASHBURN): 84.049,
    (DUBLIN, FRANKFURT): 27.289,
    (DUBLIN, PARIS): 19.936,
    (DUBLIN, ASHBURN): 69.644,
    (ASHBURN, FRANKFURT): 93.066,
    (ASHBURN, PARIS): 83.844,
    (ASHBURN, DUBLIN): 69.558,
}


def fleet_topology(
    cells: Mapping[str, str], controls: Mapping[str, str], services: str, slots: int
) -> Topology:
    """The topology with true addresses.

    Args:
        cells: Cell to ``host:port`` of its server.
        controls: Region to the URL of its worker's control endpoint.
        services: URL of the models and tools; each region's are below its name.
        slots: Requests that each model and tool serves at a time.
    """
    return Topology(
        cells=tuple(
            Cell(name=name, region=SERVER[name], address=address, namespace=name)
            for name, address in cells.items()
        ),
        regions=tuple(
            Region(
                name=name,
                coordinates=_COORDINATES[name],
                country=country,
                cell=CELL[name],
                control=controls[name],
                offers=tuple(_offer(name, offered, services, slots) for offered in OFFERS[name]),
            )
            for name, country in COUNTRY.items()
        ),
        links=tuple(
            Link(source=source, target=target, rtt_ms=rtt_ms) for (source, target), rtt_ms in _RTT_MS.items()
        ),
        source="the fleet that is broken",
    )


def _offer(region: str, name: str, services: str, slots: int) -> Offer:
    if name == "chat":
        return Offer(kind="model", name=name, endpoint=f"{services}/{region}/v1", slots=slots)
    return Offer(kind="tool", name=name, endpoint=f"{services}/{region}/{name}", slots=slots)
