"""Round trip times between any two places, from the best source that knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

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

_MS_PER_RADIAN = 2 * EARTH_RADIUS_KM / LIGHT_IN_FIBRE_KM_PER_MS * PATH_FACTOR


class Network:
    """Answers how far apart two regions are.

    Sources, best first: live probes, the topology's links, an estimate from coordinates. A
    source that knows one direction only serves for both. No triangle inequality is assumed: in
    28 % of the pairs of AWS regions a relay beats the direct path, and runs do not take relays.
    """

    def __init__(self, topology: Topology, snapshot: Snapshot) -> None:
        self.topology = topology
        backwards = {(b, a): rtt_ms for (a, b), rtt_ms in snapshot.rtt_ms.items()}
        self._probed = {**backwards, **snapshot.rtt_ms}
        self._to_target: dict[str, Sequence[float]] = {}
        self._cell_regions = [cell.region for cell in topology.cells]
        self._from_origin: dict[str | Coordinates, Sequence[float]] = {}

    def rtt_ms(self, a: str, b: str) -> float:
        """Between two regions."""
        probed = self._probed.get((a, b))
        return self.topology.rtt_ms(a, b) if probed is None else probed

    def rtts_to_own_cell_ms(self) -> Sequence[float]:
        """From every region of the topology, in its order, to the server of its own cell."""
        known = self.topology.rtts_to_own_cell_ms
        if not self._probed:
            return known
        ends = ((region.name, self.topology.cell(region.cell).region) for region in self.topology.regions)
        return [self._probed.get(pair, rtt_ms) for pair, rtt_ms in zip(ends, known, strict=True)]

    def rtts_to_ms(self, target: str) -> Sequence[float]:
        """From every region of the topology, in its order, to one of them; kept for the next time."""
        rtts_ms = self._to_target.get(target)
        if rtts_ms is None:
            rtts_ms = self.topology.rtts_to_ms(target)
            if self._probed:
                names = (region.name for region in self.topology.regions)
                rtts_ms = [
                    self._probed.get((name, target), rtt_ms)
                    for name, rtt_ms in zip(names, rtts_ms, strict=True)
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

    def _read_from(self, coordinates: Coordinates, region: str | None) -> Sequence[float]:
        if region is not None:
            return [self.rtt_ms(region, target) for target in self._cell_regions]
        return estimated_rtts_ms(
            coordinates, [self.topology.region(target).coordinates for target in self._cell_regions]
        )


def estimated_rtts_ms(origin: Coordinates, targets: Sequence[Coordinates]) -> list[float]:
    """``geography.estimated_rtt_ms`` to many targets: by chords of the unit sphere, four times as fast."""
    here = _direction(origin)
    dist, asin = math.dist, math.asin
    return [
        # rounding makes the chord of opposite points longer than a diameter
        max(NEAREST_RTT_MS, _MS_PER_RADIAN * 2 * asin(min(1.0, dist(here, _direction(target)) / 2)))
        for target in targets
    ]


@lru_cache(maxsize=8192)
def _direction(coordinates: Coordinates) -> tuple[float, float, float]:
    """The unit vector from the centre of the earth."""
    latitude, longitude = math.radians(coordinates.latitude), math.radians(coordinates.longitude)
    return (
        math.cos(latitude) * math.cos(longitude),
        math.cos(latitude) * math.sin(longitude),
        math.sin(latitude),
    )
