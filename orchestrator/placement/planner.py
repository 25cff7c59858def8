"""Home and places of a whole run, solved together and exactly for the cost model.

Pure: no I/O, no clock, no log, no randomness. ``search`` finds the numbers; this chooses the
home and builds the plan with its receipt, or the error that says why there is none.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import itemgetter
from typing import NoReturn

from orchestrator.errors import PlacementError
from orchestrator.geography import Origin
from orchestrator.placement.cost import START_MS
from orchestrator.placement.plan import Exclusion, HomeCandidate, Plan
from orchestrator.placement.profile import AgentProfile
from orchestrator.placement.receipt import Receipts, Unplaced, unplaced
from orchestrator.placement.rules import emptied_by, summary
from orchestrator.placement.search import ROUNDING_MS, CellView, Node, Option, Search
from orchestrator.placement.snapshot import Snapshot
from orchestrator.requirements import Requirements
from orchestrator.topology import Topology

HYSTERESIS = 0.10
"""A run's usual home is kept while it costs at most this much more than the best one."""

HOMES_IN_RECEIPT = 16
"""So many homes are computed to the end, the most promising first; of more, those that can
still be better than the best of them."""


def plan(
    agent: AgentProfile,
    origin: Origin,
    topology: Topology,
    snapshot: Snapshot | None = None,
    *,
    requirements: Requirements | None = None,
    homes: Iterable[str] | None = None,
    usual_home: str | None = None,
    limit: int | None = None,
) -> Plan:
    """Plan a run of an agent for a user at an origin.

    Args:
        agent: What the run consists of.
        origin: Where the user is.
        topology: What exists.
        snapshot: What is known of the regions now; nothing if left out.
        requirements: Those of this run, on top of the agent's own.
        homes: Regions to consider as homes; all if left out.
        usual_home: The home of the latest run of this agent and origin: it is kept unless
            another is better by more than ``HYSTERESIS``, so that near-equal readings do not
            move runs back and forth.
        limit: How many candidates and exclusions each part of the receipt holds, as
            ``Plan.compact`` would leave them; all if left out. With hundreds of regions most
            of the time of a plan goes into a receipt that nobody limits.

    Raises:
        PlacementError: A step or the run has no place left; names the rule that emptied it.
    """
    _refuse_cycles(agent, ())
    planner = _Planner(topology, snapshot or Snapshot(), agent, requirements or Requirements())
    return planner.plan(origin, None if homes is None else frozenset(homes), usual_home, limit)


@dataclass(frozen=True)
class _Home:
    """A home that no rule excludes, before its steps are placed."""

    index: int
    name: str
    cell: str
    start_ms: float
    least_ms: float
    """Of the whole run: a lower bound."""


@dataclass(frozen=True)
class _Found:
    """A home from which every part has a place."""

    candidate: HomeCandidate
    home: _Home
    option: Option


class _Planner:
    def __init__(
        self, topology: Topology, snapshot: Snapshot, agent: AgentProfile, requirements: Requirements
    ) -> None:
        self._topology = topology
        self._snapshot = snapshot
        self._agent = agent
        self._requirements = requirements.merged(agent.requirements)
        # the level nearer to the caller has stated its objective for this very run
        objective = requirements.objective or agent.requirements.objective
        self._bound_ms = objective.latency_bound_ms if objective else None
        self._search = Search(topology, snapshot, agent, self._requirements, self._bound_ms)
        self._excluded: dict[str, Exclusion] = {}
        self._unplaced: Unplaced | None = None
        self._found: list[_Found] = []
        self._over_bound: list[_Home] = []

    def plan(
        self, origin: Origin, homes: Collection[str] | None, usual_home: str | None, limit: int | None
    ) -> Plan:
        _fail_without_any_place(self._search.root)
        for home in sorted(self._homes(origin, homes), key=lambda home: home.least_ms):
            if not self._is_out_of_reach(home, usual_home):
                self._solve(home)
        if not self._found:
            self._fail()
        self._found.sort(key=self._rank)
        self._keep_usual(usual_home)
        best, found = self._found[0], self._found[:limit]
        receipts = Receipts(self._search, by_price=self._bound_ms is not None, limit=limit)
        cell = self._search.cell(best.home.cell)
        return Plan(
            origin=origin,
            cell=cell.name,
            root=receipts.agent_plan(self._search.root, best.home.index, cell, best.option.picks),
            residency=self._requirements.residency,
            latency_ms=best.candidate.latency_ms,
            price=best.candidate.price,
            homes=tuple(home.candidate for home in found),
            excluded_homes=dict(islice(self._excluded.items(), limit)),
        )

    # -- homes --------------------------------------------------------------------------------

    def _homes(self, origin: Origin, homes: Collection[str] | None) -> Iterable[_Home]:
        """The homes that the rules leave, with a lower bound of what the run takes from each."""
        network, root = self._search.network, self._search.root
        to_own_cell_ms = network.rtts_to_own_cell_ms()
        start_ms: dict[str, float] = {}
        for cell in self._topology.cells:
            # a request and its answer from the origin to the cell: for the start, for the result
            start_ms[cell.name] = START_MS + 2 * network.rtt_from_ms(origin, cell.region)
        for index, region in enumerate(self._topology.regions):
            if homes is not None and region.name not in homes:
                exclusion = Exclusion(rule="homes", reason="not among the homes asked for")
            else:
                exclusion = self._search.excluded_as_root(index)
            if exclusion:
                self._excluded[region.name] = exclusion
                continue
            to_cell_ms = to_own_cell_ms[index]
            # the home worker fetches the workflow task from its cell
            to_first_step_ms = start_ms[region.cell] + to_cell_ms
            least_ms = to_first_step_ms + self._search.least_ms(root, to_cell_ms)
            yield _Home(index, region.name, region.cell, to_first_step_ms, least_ms)

    def _is_out_of_reach(self, home: _Home, usual_home: str | None) -> bool:
        """Whether its lower bounds alone say that the home cannot be chosen."""
        if home.name == usual_home or len(self._found) < HOMES_IN_RECEIPT:
            return False
        best = self._best_found.candidate
        if self._bound_ms is None:
            if home.least_ms <= best.latency_ms:
                return False
            reason = f"takes {home.least_ms:.0f} ms at the least, the best home {best.latency_ms:.0f} ms"
            self._excluded[home.name] = Exclusion(rule="slower", reason=reason)
            return True
        least_price = self._least_price(self._bound_ms - home.start_ms)
        if least_price < best.price or (least_price == best.price and home.least_ms <= best.latency_ms):
            return False
        reason = f"costs {least_price:g} at the least, the best home {best.price:g} and is nearer"
        self._excluded[home.name] = Exclusion(rule="dearer", reason=reason)
        return True

    def _least_price(self, budget_ms: float) -> float:
        """What the run costs at the least within this time, from any home."""
        affordable = bisect_right(self._relaxed, budget_ms + ROUNDING_MS, key=itemgetter(0))
        return self._relaxed[affordable - 1].price if affordable else math.inf

    @cached_property
    def _relaxed(self) -> list[Option]:
        return self._search.relaxed_front(self._search.root)

    def _solve(self, home: _Home) -> None:
        """Places everything from a home; keeps what the objective prefers, or why there is nothing."""
        cell, root = self._search.cell(home.cell), self._search.root
        budget_ms = math.inf if self._bound_ms is None else self._bound_ms - home.start_ms
        options: list[Option] = []
        if home.least_ms - home.start_ms <= budget_ms + ROUNDING_MS:
            options = self._search.solve(root, home.index, cell, budget_ms)
        if options:
            # of a Pareto front, the slowest is the cheapest
            self._keep(home, cell, options[-1])
            return
        missing = unplaced(self._search, root, home.index, cell)
        if missing is None:
            reason = f"takes more than the bound of {self._bound_ms:.0f} ms"
            self._excluded[home.name] = Exclusion(rule="latency bound", reason=reason)
            self._over_bound.append(home)
            return
        self._unplaced = self._unplaced or missing
        self._excluded[home.name] = Exclusion(rule="no place", reason=missing.reason)

    def _keep(self, home: _Home, cell: CellView, option: Option) -> None:
        steps_ms = self._search.steps_ms(home.index, cell, option.picks)
        candidate = HomeCandidate(
            region=home.name,
            cell=home.cell,
            start_ms=home.start_ms,
            steps_ms=steps_ms,
            handoffs_ms=option.latency_ms - steps_ms if self._agent.handoffs else 0.0,
            price=option.price,
        )
        found = _Found(candidate, home, option)
        if not self._found or self._rank(found) < self._rank(self._best_found):
            self._best_found = found
        self._found.append(found)

    def _rank(self, found: _Found) -> tuple[float, float, int]:
        candidate = found.candidate
        if self._bound_ms is None:
            return candidate.latency_ms, candidate.price, found.home.index
        return candidate.price, candidate.latency_ms, found.home.index

    def _keep_usual(self, usual_home: str | None) -> None:
        usual = next((found for found in self._found if found.home.name == usual_home), None)
        if usual is None:
            return
        best = self._found[0].candidate
        if self._bound_ms is None:
            near = usual.candidate.latency_ms <= best.latency_ms * (1 + HYSTERESIS)
        else:
            near = usual.candidate.price <= best.price
        if near:
            self._found.remove(usual)
            self._found.insert(0, usual)

    # -- no answer ----------------------------------------------------------------------------

    def _fail(self) -> NoReturn:
        rule, part = emptied_by(self._excluded.values()), self._agent.name
        if rule == "no place" and self._unplaced is not None:
            rule, part = self._unplaced.rule, self._unplaced.part
        message = f"agent {self._agent.name} has no home, because of the rule {rule!r}"
        if rule == "latency bound":
            message += f" (at least {self._fastest_ms():.0f} ms are needed)"
        raise PlacementError(
            f"{message}: {summary(self._excluded)}",
            step=part,
            rule=rule,
            excluded=_as_text(self._excluded),
        )

    def _fastest_ms(self) -> float:
        """What the run takes without a bound, for who has to choose another."""
        free = Search(self._topology, self._snapshot, self._agent, self._requirements, None)
        times_ms: list[float] = []
        for home in self._over_bound:
            options = free.solve(free.root, home.index, free.cell(home.cell))
            times_ms += [home.start_ms + option.latency_ms for option in options]
        return min(times_ms, default=math.inf)


def _fail_without_any_place(node: Node) -> None:
    """Raises if the rules leave no region at all for a step, whatever the home."""
    for table in node.tables:
        if table.step.expected_calls == 0 or table.bodies:
            continue
        rule = emptied_by(table.excluded.values())
        raise PlacementError(
            f"step {table.step.name} has no place, because of the rule {rule!r}: {summary(table.excluded)}",
            step=table.step.name,
            rule=rule,
            excluded=_as_text(table.excluded),
        )
    for child in node.children:
        if child.calls > 0:
            _fail_without_any_place(child)


def _as_text(excluded: Mapping[str, Exclusion]) -> dict[str, str]:
    return {region: f"{exclusion.rule}: {exclusion.reason}" for region, exclusion in excluded.items()}


def _refuse_cycles(agent: AgentProfile, above: tuple[str, ...]) -> None:
    if agent.name in above:
        path = " → ".join((*above, agent.name))
        raise PlacementError(
            f"agent {agent.name} hands off to itself ({path}); declare the handoff where the loop is bounded",
            step=agent.name,
            rule="handoffs",
        )
    for handoff in agent.handoffs:
        _refuse_cycles(handoff.agent, (*above, agent.name))
