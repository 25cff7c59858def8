"""Round trip times between any two places, from the best source that knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TypeAlias

from orchestrator.geography import (
    EARTH_RADIUS_KM,
    LIGHT_IN_FIBRE_KM_PER_MS,
    NEAREST_RTT_MS,
    PATH_FACTOR,
    Coordinates,
    Origin,
)
from orchestrator.placement.snapshot import Snapshot
from orchestrator.topology import Topology

ORIGINS = 256
"""Of so many origins the round trip times are kept: users of the same city come again."""

Direction: TypeAlias = tuple[float, float, float]
"""A point on the globe as the unit vector that points to it from the centre."""

_MS_PER_RADIAN = 2 * EARTH_RADIUS_KM / LIGHT_IN_FIBRE_KM_PER_MS * PATH_FACTOR


class Network:
    """Answers how far apart two regions are.

    Sources, best first: live probes, the topology's links, an estimate from coordinates. A
    source that knows one direction only serves for both. No triangle inequality is assumed: in
    28 % of the pairs of AWS regions a relay beats the direct path, and runs do not take relays.
    """

    def __init__(self, topology: Topology, snapshot: Snapshot) -> None:
        self.topology = topology
        self._probed = snapshot.rtt_ms
        self._to_target: dict[str, Sequence[float]] = {}
        self._from_origin: dict[str | Coordinates, Sequence[float]] = {}

    def rtt_ms(self, a: str, b: str) -> float:
        """Between two regions."""
        probed = self._probed.get((a, b))
        if probed is None:
            probed = self._probed.get((b, a))
        return self.topology.rtt_ms(a, b) if probed is None else probed

    def rtts_to_own_cell_ms(self) -> Sequence[float]:
        """From every region of the topology, in its order, to the server of its own cell."""
        known = self.topology.rtts_to_own_cell_ms
        if not self._probed:
            return known
        servers = {cell.name: cell.region for cell in self.topology.cells}
        probed = self._probed
        rtts_ms: list[float] = []
        for region, known_ms in zip(self.topology.regions, known, strict=True):
            there, back = (region.name, servers[region.cell]), (servers[region.cell], region.name)
            rtts_ms.append(probed[there] if there in probed else probed.get(back, known_ms))
        return rtts_ms

    def rtts_to_ms(self, target: str) -> Sequence[float]:
        """From every region of the topology, in its order, to one of them; kept for the next time."""
        rtts_ms = self._to_target.get(target)
        if rtts_ms is None:
            rtts_ms = self.topology.rtts_to_ms(target)
            if self._probed:
                probed = self._probed
                rtts_ms = [
                    probed[name, target] if (name, target) in probed else probed.get((target, name), rtt_ms)
                    for name, rtt_ms in zip(self._names, rtts_ms, strict=True)
                ]
            self._to_target[target] = rtts_ms
        return rtts_ms

    def rtts_to_cells_ms(self, origin: Origin) -> Sequence[float]:
        """From a user to the server of every cell, in the topology's order."""
        region = origin.region
        if region is not None and not self.topology.has_region(region):
            region = None
        key = origin.coordinates if region is None else region
        rtts_ms = self._from_origin.get(key)
        if rtts_ms is None:
            rtts_ms = self._read_from(origin.coordinates, region)
            if len(self._from_origin) >= ORIGINS:
                self._from_origin.clear()
            self._from_origin[key] = rtts_ms
        return rtts_ms

    def _read_from(self, coordinates: Coordinates, region: str | None) -> list[float]:
        if region is not None:
            return [self.rtt_ms(region, cell.region) for cell in self.topology.cells]
        return estimated_rtts_ms(coordinates, self._cell_directions)

    @cached_property
    def _names(self) -> list[str]:
        return [region.name for region in self.topology.regions]

    @cached_property
    def _cell_directions(self) -> list[Direction]:
        return [direction(self.topology.region(cell.region).coordinates) for cell in self.topology.cells]


def estimated_rtts_ms(origin: Coordinates, targets: Sequence[Direction]) -> list[float]:
    """What ``geography.estimated_rtt_ms`` says, to many targets: from chords, several times as fast."""
    here = direction(origin)
    dist, asin = math.dist, math.asin
    return [
        # rounding can make the chord of opposite points longer than a diameter
        max(NEAREST_RTT_MS, _MS_PER_RADIAN * 2 * asin(min(1.0, dist(here, target) / 2)))
        for target in targets
    ]


@lru_cache(maxsize=8192)
def direction(coordinates: Coordinates) -> Direction:
    """Where the coordinates are."""
    latitude, longitude = math.radians(coordinates.latitude), math.radians(coordinates.longitude)
    return (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )
