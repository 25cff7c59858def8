"""What the search weighs: ways to do one part of an agent, and ways to do all of them.

Under the latency objective each part has one best option. Under the price objective a part
keeps its Pareto front of latency and price, because what is cheapest under the bound depends
on what the other parts take.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias, TypeVar

ROUNDING_MS = 1e-6
"""Sums of the same times in another order differ by less."""


class SubHome(NamedTuple):
    """Home of a sub-agent, and the picks of its parts from there."""

    region: int
    picks: Picks


Pick: TypeAlias = "int | SubHome | None"
"""For a step the index of its place; None for a part that is not expected and has no place."""

Picks: TypeAlias = "tuple[Picks, Pick] | None"
"""The picks of an agent's parts, last one first: steps, then sub-agents."""


class Option(NamedTuple):
    """One way to do an agent's parts from a home: what it takes, and the choices that it consists of."""

    latency_ms: float
    price: float
    picks: Picks = None


class Choice(NamedTuple):
    """One way to do one part, once."""

    latency_ms: float
    price: float
    pick: Pick


EntryT = TypeVar("EntryT", Option, Choice)


def combinations(front: list[Option], calls: float, choices: list[Choice], budget_ms: float) -> list[Option]:
    """The front of all combinations that leave the rest its time. Rounding has its own allowance."""
    limit_ms = budget_ms + ROUNDING_MS
    return pareto(
        Option(latency_ms, option.price + calls * choice.price, (option.picks, choice.pick))
        for option in front
        for choice in choices
        if (latency_ms := option.latency_ms + calls * choice.latency_ms) <= limit_ms
    )


def pareto(entries: Iterable[EntryT]) -> list[EntryT]:
    """Those of which none is both faster and cheaper than another, fastest first."""
    front: list[EntryT] = []
    for entry in sorted(entries, key=latency_then_price):
        if not front or entry.price < front[-1].price:
            front.append(entry)
    return front


def unfolded(picks: Picks) -> list[Pick]:
    """The picks in the order of the agent's parts."""
    found: list[Pick] = []
    while picks is not None:
        picks, pick = picks
        found.append(pick)
    return found[::-1]


def later(choice: Choice, more_ms: float) -> Choice:
    """The same one, taking so much longer."""
    return Choice(choice.latency_ms + more_ms, choice.price, choice.pick)


def latency_then_price(entry: Option | Choice) -> tuple[float, float]:
    """What sorts the fastest first, of equally fast ones the cheapest."""
    return entry[0], entry[1]
