"""Where a user is, and which of the distances of a plan nobody has measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from orchestrator.cli.output import note
from orchestrator.errors import UnknownOriginError
from orchestrator.geography import Coordinates, Origin, approximate_origin, similar_cities
from orchestrator.topology import Topology

SHOWN = 3
"""So many pairs of regions are named in a note."""


def coordinates_of(topology: Topology) -> dict[str, Coordinates]:
    """The regions and where they are."""
    return {region.name: region.coordinates for region in topology.regions}


def origin_of(text: str, regions: Mapping[str, Coordinates]) -> Origin:
    """What the user wrote as an origin; for an unknown city of a known country, the country.

    Args:
        text: What was written.
        regions: Region names and where they are.

    Raises:
        UnknownOriginError: It means nothing. The message names cities that are written like it.
    """
    try:
        return approximate_origin(text, regions)
    except UnknownOriginError as error:
        similar = similar_cities(text)
        if not similar:
            raise
        raise UnknownOriginError(f"{error}; did you mean {' or '.join(similar)}?") from None


def note_estimates(topology: Topology, origin: Origin | None = None) -> None:
    """Say, in one note, which round trip times are estimated from coordinates; nothing if none is.

    Args:
        topology: What is planned over.
        origin: Where the user is, if there is one.
    """
    told = estimates(topology, origin)
    if told:
        note("; ".join(told))


def estimates(topology: Topology, origin: Origin | None = None) -> list[str]:
    """What is estimated, in sentences without a full stop."""
    told: list[str] = []
    if origin is not None and origin.stand_in is not None:
        told.append(f"origin {origin.label}: taken to be at {origin.stand_in}")
    pairs = list(combinations([region.name for region in topology.regions], 2))
    missing = unmeasured(topology)
    if missing:
        shown = ", ".join(f"{a}–{b}" for a, b in missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        told.append(
            f"round trip times of {len(missing)} of {len(pairs)} pairs of regions are estimated from "
            f"coordinates, because {topology.source} has no link for them ({shown})"
        )
    if origin is not None and origin.region is None:
        told.append(f"round trip times from {origin.label} are estimated from coordinates")
    return told


def unmeasured(topology: Topology) -> list[tuple[str, str]]:
    """The pairs of regions that no link tells anything about; a link of one direction serves for both."""
    measured = {frozenset((link.source, link.target)) for link in topology.links}
    names = [region.name for region in topology.regions]
    return [pair for pair in combinations(names, 2) if frozenset(pair) not in measured]
