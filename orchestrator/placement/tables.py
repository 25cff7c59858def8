"""What the search looks numbers up in: steps over all regions, the agent tree, cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from operator import add

from orchestrator.placement.cost import Body, transfer_ms
from orchestrator.placement.options import Choice, pareto
from orchestrator.placement.plan import Exclusion
from orchestrator.placement.profile import AgentProfile, StepProfile
from orchestrator.requirements import Residency


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
        self._queued_ms = [bodies[place].queued_ms for place in self._places]
        self.least_queued_ms = (
            math.inf if step.dispatch == "inline" else min(self._queued_ms, default=math.inf)
        )
        inline = (body.inline_ms for body in set(bodies.values()) if body.may_run_inline)
        self.least_inline_ms = min(inline, default=math.inf)

    def fastest_queued(self, reach_ms: Sequence[float]) -> list[Choice]:
        """The place that is fastest by its queue; of equally fast ones the cheapest.

        Args:
            reach_ms: Round trip time of each region to the cell; infinite where it does not serve it.
        """
        times_ms = self._times_ms(reach_ms)
        best_ms = min(times_ms, default=math.inf)
        if best_ms == math.inf:
            return []
        place = self._places[times_ms.index(best_ms)]
        return [Choice(best_ms + self.transfer_ms, self.prices[place], place)]

    def queued_front(self, reach_ms: Sequence[float]) -> list[Choice]:
        """The places of which none is both faster and cheaper than another, fastest first."""
        front: list[Choice] = []
        best_ms = math.inf
        for place, queued_ms in zip(self._places, self._queued_ms, strict=True):
            time_ms = queued_ms + reach_ms[place] + self.transfer_ms
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

    def ranked(
        self, reach_ms: Sequence[float], *, by_price: bool, count: int | None
    ) -> list[tuple[float, float, int]]:
        """The places that serve a cell by what they take from their queues, best first.

        Args:
            reach_ms: As above.
            by_price: Whether the cheapest is best; else the fastest is.
            count: At most so many; all if None.

        Returns:
            What ranks each (time without the home's way to the cell and price, in the order in
            which they count) and its index.
        """
        times_ms: Iterable[float] = map(self.transfer_ms.__add__, self._times_ms(reach_ms))
        prices: Iterable[float] = map(self.prices.__getitem__, self._places)
        pairs = zip(prices, times_ms, strict=True) if by_price else zip(times_ms, prices, strict=True)
        entries = [
            (*pair, place)
            for pair, place in zip(pairs, self._places, strict=True)
            if reach_ms[place] < math.inf
        ]
        return sorted(entries) if count is None else nsmallest(count, entries)

    def _times_ms(self, reach_ms: Sequence[float]) -> list[float]:
        return list(map(add, self._queued_ms, map(reach_ms.__getitem__, self._places)))


class Node:
    """One agent of the tree, with the requirements that hold for it."""

    def __init__(self, agent: AgentProfile, residency: Residency, calls: float) -> None:
        self.agent = agent
        self.residency = residency
        self.calls = calls
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
        self.queued: dict[int, list[Choice]] = {}
        self.handoffs: dict[int, list[Choice]] = {}
