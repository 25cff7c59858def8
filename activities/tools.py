"""Tools as steps: one a tool, because what a step needs decides where it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import Field

from activities.values import Value
from orchestrator import Needs, backends, step
from orchestrator.backends import ToolDescription
from orchestrator.errors import ToolError

TIMEOUT = timedelta(seconds=20)
EXPECTED = (timedelta(milliseconds=20), timedelta(milliseconds=200))


class Observation(Value):
    """What a tool said."""

    text: str
    failed: bool = False
    """It ran and reported an error: something for the model to act on, not a failure of the step."""


class Journey(Value):
    """Two places."""

    origin: str = Field(description="A city")
    destination: str = Field(description="A city")


class City(Value):
    """A city."""

    city: str = Field(description="A city")


class Expression(Value):
    """Something to work out."""

    expression: str = Field(description="Arithmetic, such as (2 + 3) * 4")


class Quantity(Value):
    """A quantity and the unit that is wanted."""

    value: float
    source: str = Field(description="Its unit, such as km")
    target: str = Field(description="The unit wanted, such as mi")


@step(needs=Needs(tool="distance"), timeout=TIMEOUT, expected=EXPECTED)
async def distance(journey: Journey) -> Observation:
    """Kilometres between two cities."""
    return await _use("distance", journey)


@step(needs=Needs(tool="local-time"), timeout=TIMEOUT, expected=EXPECTED)
async def local_time(city: City) -> Observation:
    """What time it is in a city."""
    return await _use("local-time", city)


@step(needs=Needs(tool="population"), timeout=TIMEOUT, expected=EXPECTED)
async def population(city: City) -> Observation:
    """How many people live in a city."""
    return await _use("population", city)


@step(needs=Needs(tool="calculator"), timeout=TIMEOUT, expected=EXPECTED)
async def calculator(expression: Expression) -> Observation:
    """The value of an arithmetic expression."""
    return await _use("calculator", expression)


@step(needs=Needs(tool="unit-conversion"), timeout=TIMEOUT, expected=EXPECTED)
async def unit_conversion(quantity: Quantity) -> Observation:
    """A quantity in another unit."""
    return await _use("unit-conversion", quantity)


async def _use(name: str, arguments: Value) -> Observation:
    try:
        result = await backends.tool(name).call(arguments.model_dump())
    except ToolError as error:
        return Observation(text=error.reported, failed=True)
    return Observation(text=result.text)


@dataclass(frozen=True)
class ModelTool:
    """A step that a model may choose."""

    step: Callable[[Any], Awaitable[Observation]]
    takes: type[Value]
    examples: tuple[tuple[str, Value], ...]
    """Questions and the arguments that they lead to: small models copy, they do not read schemas."""

    @property
    def description(self) -> ToolDescription:
        """What the model is told."""
        return ToolDescription(
            name=self.step.__name__,
            description=(self.step.__doc__ or "").strip(),
            parameters=self.takes.model_json_schema(),
        )


TOOLS: Mapping[str, ModelTool] = {
    tool.step.__name__: tool
    for tool in (
        ModelTool(
            distance,
            Journey,
            (
                ("How long is the way from Rome to Oslo?", Journey(origin="Rome", destination="Oslo")),
                ("How far is it from New Delhi to Cairo?", Journey(origin="New Delhi", destination="Cairo")),
            ),
        ),
        ModelTool(
            local_time,
            City,
            (
                ("How late is it now in Cairo?", City(city="Cairo")),
                ("What time is it in New Delhi?", City(city="New Delhi")),
            ),
        ),
        ModelTool(
            population,
            City,
            (
                ("How big is the population of Lima?", City(city="Lima")),
                ("How many people live in Buenos Aires?", City(city="Buenos Aires")),
            ),
        ),
        ModelTool(
            calculator,
            Expression,
            (
                ("What does 3 + 4 make?", Expression(expression="3 + 4")),
                ("What is 12 * (5 - 2)?", Expression(expression="12 * (5 - 2)")),
            ),
        ),
        ModelTool(
            unit_conversion,
            Quantity,
            (
                ("How many pounds are 5 kilograms?", Quantity(value=5, source="kg", target="lb")),
                ("How many kilometres are 3 miles?", Quantity(value=3, source="mi", target="km")),
            ),
        ),
    )
}
"""By the name of the step: what ``react`` offers to its model."""
