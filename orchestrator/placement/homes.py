"""The choice of the home for one run of a prepared agent: a way from the user, a few sums, a minimum."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import NoReturn, TypeAlias

from orchestrator.errors import PlacementError
from orchestrator.geography import Origin
from orchestrator.placement.plan import Exclusion, HomeCandidate, Plan
from orchestrator.placement.prepared import Parts, PreparedAgent
from orchestrator.placement.receipt import Unplaced
from orchestrator.placement.refusals import as_text
from orchestrator.placement.rules import emptied_by, summary

HYSTERESIS = 0.10
"""A run's usual home is kept while it costs at most this much more than the best one."""

HOMES_IN_RECEIPT = 16
"""So many homes are computed to the end, the most promising first; of more, those that can
still be better than the best of them."""

_NOT_ASKED_FOR = Exclusion(rule="homes", reason="not among the homes asked for")


_Found: TypeAlias = tuple[float, float, int, int, Parts]
"""A home from which every part has a place: what the objective weighs of the whole run (time or price),
the other one, its region, its position, what its parts take. Sorts the best first."""


class HomeChoice:
    """Weighs the homes of one run.

    Args:
        agent: What the run consists of.
        origin: Where the user is.
        homes: Regions to consider; all if None.
        usual_home: The home of the latest such run.
        round_trips: From the user to the cell, for the run and its answer.
    """

    def __init__(
        self,
        agent: PreparedAgent,
        origin: Origin,
        homes: Collection[str] | None,
        usual_home: str | None,
        round_trips: int,
    ) -> None:
        self._agent = agent
        self._origin = origin
        self._homes = homes
        self._usual = None if usual_home is None else agent.positions.get(usual_home)
        self._start_ms, self._least_ms = agent.ways(origin, round_trips)
        self._found: list[_Found] = []
        self._left: list[tuple[str, Exclusion]] = []
        """Why homes that the rules permit were left, as far as that has a reason of its own."""

        self._beyond: list[int] = []
        """Homes that even at the least take longer than the best one."""

        self._best_ms = math.inf
        self._first_unplaced: Unplaced | None = None
        self._over_bound: list[int] = []
        if agent.bound_ms is None:
            self._weigh_by_latency()
        else:
            self._weigh_by_price(agent.bound_ms)
        self._found.sort()
        self._keep_usual()

    def plan(self, limit: int | None) -> Plan:
        """The plan from the best home.

        Raises:
            PlacementError: There is none; names the rule.
        """
        if not self._found:
            self._fail()
        best = self._found[0]
        *_, position, parts = best
        home = self._candidate(best)
        others = (self._candidate(found) for found in self._found[1:limit])
        return Plan(
            origin=self._origin,
            cell=home.cell,
            root=self._agent.agent_plan(position, parts.picks, limit),
            residency=self._agent.requirements.residency,
            latency_ms=home.latency_ms,
            price=home.price,
            homes=tuple(islice(chain((home,), others), limit)),
            excluded_homes=dict(islice(self._excluded(), limit)),
        )

    # -- weighing -----------------------------------------------------------------------------

    def _order(self) -> list[int]:
        """The homes to consider, the most promising first."""
        positions: Iterable[int] = range(len(self._least_ms))
        if self._homes is not None:
            known = self._agent.positions
            positions = sorted(known[name] for name in self._homes if name in known)
        return sorted(positions, key=self._least_ms.__getitem__)

    def _weigh_by_latency(self) -> None:
        order, found, regions = self._order(), self._found, self._agent.regions
        start_ms, least_ms, fastest = self._start_ms, self._least_ms, self._agent.fastest
        best_ms = math.inf
        for number, position in enumerate(order):
            if least_ms[position] > best_ms and len(found) >= HOMES_IN_RECEIPT:
                self._beyond = order[number:]
                break
            parts = fastest(position)
            if parts is None:
                self._leave_unplaced(position)
                continue
            steps_ms, handoffs_ms, price, _ = parts
            latency_ms = start_ms[position] + steps_ms + handoffs_ms
            found.append((latency_ms, price, regions[position], position, parts))
            if latency_ms < best_ms:
                best_ms = latency_ms
        self._best_ms = best_ms
        if self._usual is not None and self._usual in self._beyond:
            parts = self._agent.fastest(self._usual)
            if parts is not None:
                latency_ms = start_ms[self._usual] + parts.steps_ms + parts.handoffs_ms
                found.append((latency_ms, parts.price, regions[self._usual], self._usual, parts))

    def _weigh_by_price(self, bound_ms: float) -> None:
        best: tuple[float, float] = (math.inf, math.inf)
        for position in self._order():
            budget_ms = bound_ms - self._start_ms[position]
            if position != self._usual and len(self._found) >= HOMES_IN_RECEIPT:
                least_price = self._agent.least_price(budget_ms)
                if (least_price, self._least_ms[position]) > best:
                    reason = f"costs {least_price:g} at the least, the best home {best[0]:g} and is nearer"
                    self._leave(position, Exclusion(rule="dearer", reason=reason))
                    continue
            parts = self._agent.cheapest(position, budget_ms)
            if parts is not None:
                latency_ms = self._start_ms[position] + parts.steps_ms + parts.handoffs_ms
                region = self._agent.regions[position]
                self._found.append((parts.price, latency_ms, region, position, parts))
                best = min(best, (parts.price, latency_ms))
            elif self._agent.unplaced(position) is not None:
                self._leave_unplaced(position)
            else:
                reason = f"takes more than the bound of {bound_ms:.0f} ms"
                self._leave(position, Exclusion(rule="latency bound", reason=reason))
                self._over_bound.append(position)

    def _leave(self, position: int, exclusion: Exclusion) -> None:
        self._left.append((self._agent.name(position), exclusion))

    def _leave_unplaced(self, position: int) -> None:
        missing = self._agent.unplaced(position)
        assert missing is not None, "without a bound, only a part without a place keeps an agent from a home"
        self._first_unplaced = self._first_unplaced or missing
        self._leave(position, Exclusion(rule="no place", reason=missing.reason))

    def _keep_usual(self) -> None:
        if self._usual is None:
            return
        usual = next((found for found in self._found if found[3] == self._usual), None)
        if usual is None:
            return
        allowed = 1.0 if self._agent.bound_ms is not None else 1 + HYSTERESIS
        if usual[0] <= self._found[0][0] * allowed:
            self._found.remove(usual)
            self._found.insert(0, usual)

    # -- what people read ---------------------------------------------------------------------

    def _candidate(self, found: _Found) -> HomeCandidate:
        _, _, index, position, parts = found
        region = self._agent.topology.regions[index]
        return HomeCandidate(
            region=region.name,
            cell=region.cell,
            start_ms=self._start_ms[position],
            steps_ms=parts.steps_ms,
            handoffs_ms=parts.handoffs_ms,
            price=parts.price,
        )

    def _excluded(self) -> Iterator[tuple[str, Exclusion]]:
        """Why the other regions are no homes: first the rules, then what was found in weighing."""
        if self._homes is None:
            yield from self._agent.excluded.items()
        else:
            for region in self._agent.topology.regions:
                if region.name not in self._homes:
                    yield region.name, _NOT_ASKED_FOR
                elif region.name in self._agent.excluded:
                    yield region.name, self._agent.excluded[region.name]
        yield from self._left
        for position in self._beyond:
            if position != self._usual:
                least_ms, best_ms = self._least_ms[position], self._best_ms
                reason = f"takes {least_ms:.0f} ms at the least, the best home {best_ms:.0f} ms"
                yield self._agent.name(position), Exclusion(rule="slower", reason=reason)
            elif self._agent.fastest(position) is None and (missing := self._agent.unplaced(position)):
                yield self._agent.name(position), Exclusion(rule="no place", reason=missing.reason)

    def _fail(self) -> NoReturn:
        excluded, name = dict(self._excluded()), self._agent.agent.name
        rule, part = emptied_by(excluded.values()), name
        if rule == "no place" and self._first_unplaced is not None:
            rule, part = self._first_unplaced.rule, self._first_unplaced.part
        message = f"agent {name} has no home, because of the rule {rule!r}"
        if rule == "latency bound":
            message += f" (at least {self._fastest_ms():.0f} ms are needed)"
        raise PlacementError(
            f"{message}: {summary(excluded)}", step=part, rule=rule, excluded=as_text(excluded)
        )

    def _fastest_ms(self) -> float:
        """What the run takes without a bound, for who has to choose another."""
        times_ms = (
            self._start_ms[position] + taken_ms
            for position in self._over_bound
            if (taken_ms := self._agent.unbound_ms(position)) is not None
        )
        return min(times_ms, default=math.inf)
