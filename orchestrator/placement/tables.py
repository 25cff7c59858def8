"""What the search looks numbers up in: steps over all regions, the agent tree, cells."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from functools import cached_property
from heapq import nsmallest
from typing import TypeAlias

from orchestrator.placement.cost import Body, transfer_ms
from orchestrator.placement.options import Choice, pareto
from orchestrator.placement.plan import Exclusion
from orchestrator.placement.profile import AgentProfile, StepProfile
from orchestrator.requirements import Residency

Rank: TypeAlias = tuple[float, float, int]
"""Two figures that rank a place, the weightier one first, and its index."""


class StepTable:
    """One step over all regions: what does not depend on the home."""

    def __init__(
        self,
        step: StepProfile,
        bodies: dict[int, Body],
        prices: dict[int, float],
        excluded: dict[str, Exclusion],
    ) -> None:
        self.step = step
        self.bodies = bodies
        """By the index of each region that the rules allow."""

        self.prices = prices
        self.excluded = excluded
        self.transfer_ms = transfer_ms(step)
        # cheapest first, so that a front is found in one pass
        self._places = sorted(bodies, key=prices.__getitem__)
        self._queued_ms = {place: bodies[place].queued_ms for place in self._places}
        self._quickest = sorted(self._queued_ms, key=self._queued_ms.__getitem__)
        self._least_ms = self._queued_ms[self._quickest[0]] if bodies else math.inf
        self.least_queued_ms = math.inf if step.dispatch == "inline" else self._least_ms
        inline = (body.inline_ms for body in set(bodies.values()) if body.may_run_inline)
        self.least_inline_ms = min(inline, default=math.inf)

    def fastest_queued(self, cell: CellView) -> list[Choice]:
        """The place that is fastest by its queue; of equally fast ones the cheapest.

        Looks at the nearest places and at those with the shortest queues, in turn: one that
        comes later in both orders is further off than all seen so far, and takes longer.
        """
        reach_ms, queued_ms, prices = cell.reach_ms, self._queued_ms, self.prices
        best_ms, best = math.inf, -1
        for near, quick in zip(cell.nearest, self._quickest, strict=False):
            if reach_ms[near] + queued_ms[quick] > best_ms:
                break
            for place in (near, quick):
                time_ms = queued_ms.get(place, math.inf) + reach_ms[place]
                if time_ms < best_ms or (
                    time_ms == best_ms < math.inf and (prices[place], place) < (prices[best], best)
                ):
                    best_ms, best = time_ms, place
        return [] if best < 0 else [Choice(best_ms + self.transfer_ms, prices[best], best)]

    def queued_front(self, cell: CellView) -> list[Choice]:
        """The places of which none is both faster and cheaper than another, fastest first."""
        front: list[Choice] = []
        best_ms = math.inf
        for place in self._places:
            time_ms = self._queued_ms[place] + cell.reach_ms[place] + self.transfer_ms
            if time_ms < best_ms:
                best_ms = time_ms
                if front and front[-1].price == self.prices[place]:
                    front.pop()
                front.append(Choice(time_ms, self.prices[place], place))
        return front[::-1]

    def relaxed_front(self) -> list[Choice]:
        """As if every place were at home and inline where it may be: no home does better."""
        fastest = {
            place: min(body.queued_ms, body.inline_ms if body.may_run_inline else math.inf)
            for place, body in self.bodies.items()
        }
        return pareto(Choice(fastest[place], self.prices[place], place) for place in self._places)

    def ranked(self, cell: CellView, *, by_price: bool, count: int | None) -> list[Rank]:
        """The places that serve a cell by what they take from their queues, best first.

        Args:
            cell: Which one.
            by_price: Whether the cheapest is best; else the fastest is.
            count: At most so many; all if None.

        Returns:
            Time without the home's way to the cell, price (the other way round if the cheapest
            is best) and index of each.
        """
        if count is not None and not by_price:
            return self._fastest(cell, count)
        reach_ms, prices = cell.reach_ms, self.prices
        times_ms = (
            (place, queued_ms + reach_ms[place] + self.transfer_ms)
            for place, queued_ms in self._queued_ms.items()
            if reach_ms[place] < math.inf
        )
        if not by_price:
            return sorted((time_ms, prices[place], place) for place, time_ms in times_ms)
        entries = [(prices[place], time_ms, place) for place, time_ms in times_ms]
        return sorted(entries) if count is None else nsmallest(count, entries)

    def _fastest(self, cell: CellView, count: int) -> list[Rank]:
        found: list[Rank] = []
        seen: set[int] = set()
        reach_ms, queued_ms, more_ms = cell.reach_ms, self._queued_ms, self.transfer_ms
        for near, quick in zip(cell.nearest, self._quickest, strict=False):
            if len(found) == count and queued_ms[quick] + reach_ms[near] + more_ms > found[-1][0]:
                break
            for place in (near, quick):
                if place in queued_ms and place not in seen and reach_ms[place] < math.inf:
                    seen.add(place)
                    insort(found, (queued_ms[place] + reach_ms[place] + more_ms, self.prices[place], place))
                    del found[count:]
        return found


class Node:
    """One agent of the tree, with the requirements that hold for it."""

    def __init__(self, agent: AgentProfile, residency: Residency, calls: float, runs: float) -> None:
        self.agent = agent
        self.residency = residency
        self.calls = calls
        """How often the agent above starts it."""

        self.runs = runs
        """How often it runs in one run of the whole tree."""

        self.tables: list[StepTable] = []
        self.children: list[Node] = []


class CellView:
    """What the search needs of one cell: the way to it from everywhere, and who serves it."""

    def __init__(self, name: str, region: int, rtts_ms: Sequence[float], serving: Sequence[bool]) -> None:
        self.name = name
        self.region = region
        self.rtts_ms = rtts_ms
        self.serving = serving
        self.serves_all = all(serving)
        """Whether every region serves it."""

        self.reach_ms = (
            rtts_ms
            if self.serves_all
            else [rtt_ms if serves else math.inf for rtt_ms, serves in zip(rtts_ms, serving, strict=True)]
        )
        """Round trip time of each region to the cell; infinite where it does not serve it."""

        self.queued: dict[int, list[Choice]] = {}
        self.handoffs: dict[int, list[Choice]] = {}

    @cached_property
    def nearest(self) -> list[int]:
        """The regions, nearest first; those that do not serve it at the end."""
        return sorted(range(len(self.reach_ms)), key=self.reach_ms.__getitem__)
