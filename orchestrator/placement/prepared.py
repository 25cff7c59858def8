"""An agent prepared for many runs: everything that does not depend on where the user is.

What a run costs from a home is what its parts take from there, which is the same for every
user, and the way from the user to the home's cell. The first is found once a home, when a run
first weighs it, and kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from operator import add, itemgetter
from typing import NamedTuple

from orchestrator.geography import Origin
from orchestrator.placement.cost import START_MS
from orchestrator.placement.network import Network
from orchestrator.placement.options import ROUNDING_MS, Option, Picks
from orchestrator.placement.plan import AgentPlan, Exclusion
from orchestrator.placement.profile import AgentProfile
from orchestrator.placement.receipt import KeptReceipts, Receipts, Unplaced, unplaced
from orchestrator.placement.refusals import refuse_without_any_place
from orchestrator.placement.search import Search
from orchestrator.placement.snapshot import Snapshot
from orchestrator.placement.tables import CellView
from orchestrator.requirements import Requirements

OPTIONS_KEPT = 32
"""Of a home's Pareto front, which may have thousands: users of like budgets choose among these."""


class Parts(NamedTuple):
    """What all parts of an agent take from one home, and the choices that it consists of."""

    steps_ms: float
    handoffs_ms: float
    price: float
    picks: Picks


class Ways(NamedTuple):
    """From one user to every permitted home."""

    start_ms: Sequence[float]
    """Reaching the home's cell to start and for the result."""

    least_ms: Sequence[float]
    """Of the whole run: a lower bound."""


class _Cheapest(NamedTuple):
    """The cheapest options of a home, fastest first: for every budget between these two."""

    shortest_ms: float
    longest_ms: float
    options: list[Option]


class PreparedAgent:
    """The numbers of an agent over one topology and snapshot.

    Homes that the rules permit are meant by their position: 0 for the first one.

    Args:
        network: Between the regions of the topology.
        snapshot: What is known of them.
        agent: The tree.
        requirements: Those of the run.
        kept: Where receipts are kept for the next run.
    """

    def __init__(
        self,
        network: Network,
        snapshot: Snapshot,
        agent: AgentProfile,
        requirements: Requirements,
        kept: KeptReceipts,
    ) -> None:
        self.agent = agent
        self.requirements = requirements.merged(agent.requirements)
        # the level nearer to the caller has stated its objective for this very run
        objective = requirements.objective or agent.requirements.objective
        self.bound_ms = objective.latency_bound_ms if objective else None
        self.topology = network.topology
        self._network = network
        self._snapshot = snapshot
        self._search = Search(network, snapshot, agent, self.requirements, self.bound_ms)
        self._kept = kept
        self._receipts: dict[int | None, Receipts] = {}
        self._parts: dict[int, Parts | None] = {}
        self._options: dict[int, _Cheapest] = {}
        self._unplaced: dict[int, Unplaced | None] = {}
        refuse_without_any_place(self._search.root)
        self.excluded: dict[str, Exclusion] = {}
        """Regions that may not be homes, and the rules that say so."""

        self._find_homes()

    def _find_homes(self) -> None:
        regions, root = self.topology.regions, self._search.root
        numbers = {cell.name: number for number, cell in enumerate(self.topology.cells)}
        to_own_cell_ms = self._network.rtts_to_own_cell_ms()
        self.regions: list[int] = []
        """The region of each position: its index in the topology."""

        for index, region in enumerate(regions):
            exclusion = self._search.excluded_as_root(index)
            if exclusion:
                self.excluded[region.name] = exclusion
            else:
                self.regions.append(index)
        self.positions = {regions[index].name: position for position, index in enumerate(self.regions)}
        self._cells = [numbers[regions[index].cell] for index in self.regions]
        # the home worker fetches the workflow task from its cell
        self._to_cell_ms = [to_own_cell_ms[index] for index in self.regions]
        self._least_ms = self._search.least_ms(root, self._to_cell_ms)

    def ways(self, origin: Origin, round_trips: int) -> Ways:
        """The ways from a user to the homes, each taken so often."""
        to_cells_ms = [START_MS + round_trips * rtt_ms for rtt_ms in self._network.rtts_to_cells_ms(origin)]
        start_ms = list(map(add, map(to_cells_ms.__getitem__, self._cells), self._to_cell_ms))
        return Ways(start_ms, list(map(add, start_ms, self._least_ms)))

    def name(self, position: int) -> str:
        """The region of a position."""
        return self.topology.regions[self.regions[position]].name

    def cell(self, position: int) -> CellView:
        """The cell of a home."""
        return self._search.cell(self.topology.regions[self.regions[position]].cell)

    # -- what the parts take ------------------------------------------------------------------

    def fastest(self, position: int) -> Parts | None:
        """All parts at their best places from a home; None where a part has no place there."""
        try:
            return self._parts[position]
        except KeyError:
            cell = self.cell(position)
            options = self._search.solve(self._search.root, self.regions[position], cell)
            parts = self._parts[position] = self._parts_of(position, options[0]) if options else None
            return parts

    def cheapest(self, position: int, budget_ms: float) -> Parts | None:
        """The cheapest way to do all parts from a home within a time; None if there is none."""
        if self._least_ms[position] > budget_ms + ROUNDING_MS:
            return None
        known = self._options.get(position)
        if known is None or not known.shortest_ms <= budget_ms <= known.longest_ms:
            root, cell = self._search.root, self.cell(position)
            options = self._search.solve(root, self.regions[position], cell, budget_ms)
            kept = options[-OPTIONS_KEPT:]
            shortest_ms = kept[0].latency_ms if len(kept) < len(options) else -math.inf
            known = self._options[position] = _Cheapest(shortest_ms, budget_ms, kept)
        # of a Pareto front, the slowest is the cheapest
        affordable = bisect_right(known.options, budget_ms + ROUNDING_MS, key=itemgetter(0))
        return self._parts_of(position, known.options[affordable - 1]) if affordable else None

    def least_price(self, budget_ms: float) -> float:
        """What the run costs at the least within this time, from any home."""
        affordable = bisect_right(self._relaxed, budget_ms + ROUNDING_MS, key=itemgetter(0))
        return self._relaxed[affordable - 1].price if affordable else math.inf

    def unplaced(self, position: int) -> Unplaced | None:
        """The first part that has no place from a home; None if every one has."""
        if position not in self._unplaced:
            root, cell = self._search.root, self.cell(position)
            self._unplaced[position] = unplaced(self._search, root, self.regions[position], cell)
        return self._unplaced[position]

    def unbound_ms(self, position: int) -> float | None:
        """What the parts take from a home where they may take as long as they need."""
        cell = self._unbound.cell(self.cell(position).name)
        options = self._unbound.solve(self._unbound.root, self.regions[position], cell)
        return options[0].latency_ms if options else None

    @cached_property
    def _unbound(self) -> Search:
        return Search(self._network, self._snapshot, self.agent, self.requirements, None)

    @cached_property
    def _relaxed(self) -> list[Option]:
        return self._search.relaxed_front(self._search.root)

    def _parts_of(self, position: int, option: Option) -> Parts:
        steps_ms = self._search.steps_ms(self.regions[position], self.cell(position), option.picks)
        handoffs_ms = option.latency_ms - steps_ms if self.agent.handoffs else 0.0
        return Parts(steps_ms, handoffs_ms, option.price, option.picks)

    # -- what people read ---------------------------------------------------------------------

    def agent_plan(self, position: int, picks: Picks, limit: int | None) -> AgentPlan:
        """The plan of the agent at a home, with its receipt."""
        key = (self, position, limit)
        plan = self._kept.get(key, picks)
        if plan is None:
            receipts = self._receipts.get(limit)
            if receipts is None:
                # one at a time: who plans runs always asks for the same
                receipts = Receipts(self._search, by_price=self.bound_ms is not None, limit=limit)
                self._receipts = {limit: receipts}
            home, cell = self.regions[position], self.cell(position)
            plan = receipts.agent_plan(self._search.root, home, cell, picks)
            self._kept.put(key, picks, plan)
        return plan
