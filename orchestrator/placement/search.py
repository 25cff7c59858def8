"""The search: numbers only. What it finds, ``planner`` turns into a plan.

Given a home (and with it a cell), a step's data goes home → place → home, so the choices of
the steps are independent of each other. All that a queued step costs splits into what depends
on its place and the cell, and the round trip from the home to the cell: the best place of a
cell is found once for all its homes. Sub-agents have homes of their own in the same cell and
split the same way, solved by dynamic programming over the agent tree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from orchestrator.placement.cost import START_MS, CostModel
from orchestrator.placement.network import Network
from orchestrator.placement.options import (
    Choice,
    Option,
    Picks,
    SubHome,
    combinations,
    latency_then_price,
    later,
    pareto,
    unfolded,
)
from orchestrator.placement.plan import Exclusion
from orchestrator.placement.profile import AgentProfile, StepProfile
from orchestrator.placement.rules import exclude_home, exclude_place
from orchestrator.placement.snapshot import Snapshot
from orchestrator.placement.tables import CellView, Node, StepTable
from orchestrator.requirements import Requirements
from orchestrator.topology import Region


class Search:
    """Finds the best options of an agent tree at any home.

    Args:
        network: Between the regions.
        snapshot: What is known of the regions.
        agent: The tree.
        requirements: Those of the run and the agent, merged.
        bound_ms: The latency bound where price is the objective, else None.
    """

    def __init__(
        self,
        network: Network,
        snapshot: Snapshot,
        agent: AgentProfile,
        requirements: Requirements,
        bound_ms: float | None,
    ) -> None:
        self.topology = network.topology
        self.network = network
        self._snapshot = snapshot
        self._costs = CostModel(network, snapshot)
        self._bound_ms = bound_ms
        self._indexes = {region.name: index for index, region in enumerate(self.topology.regions)}
        self._serves = [region.serves for region in self.topology.regions]
        self._cells: dict[str, CellView] = {}
        self._allowed: dict[Requirements, tuple[dict[int, float], dict[str, Exclusion]]] = {}
        self.root = self._node(agent, requirements, 1.0, 1.0)

    # -- what does not depend on the home -----------------------------------------------------

    def _node(self, agent: AgentProfile, requirements: Requirements, calls: float, runs: float) -> Node:
        node = Node(agent, requirements.residency, calls, runs)
        node.tables = [self._table(step, requirements) for step in agent.steps]
        node.children = [
            self._node(
                handoff.agent,
                requirements.merged(handoff.agent.requirements),
                handoff.expected_calls,
                handoff.expected_calls * runs,
            )
            for handoff in agent.handoffs
        ]
        return node

    def _table(self, step: StepProfile, requirements: Requirements) -> StepTable:
        prices, excluded = self._allowed_places(requirements.merged(step.requirements))
        regions = self.topology.regions
        if self._costs.is_alike_everywhere(step):
            bodies = dict.fromkeys(prices, self._costs.body(step, ""))
        else:
            bodies = {index: self._costs.body(step, regions[index].name) for index in prices}
        return StepTable(step, bodies, prices, excluded)

    def _allowed_places(self, requirements: Requirements) -> tuple[dict[int, float], dict[str, Exclusion]]:
        """Index and price of each region that the rules allow, and why the others are out."""
        found = self._allowed.get(requirements)
        if found is None:
            allowed: dict[int, float] = {}
            excluded: dict[str, Exclusion] = {}
            for index, region in enumerate(self.topology.regions):
                exclusion = exclude_place(region, requirements, self._snapshot)
                if exclusion:
                    excluded[region.name] = exclusion
                else:
                    allowed[index] = _price(region, requirements)
            found = self._allowed[requirements] = (allowed, excluded)
        return found

    def cell(self, name: str) -> CellView:
        """The cell as the search sees it."""
        view = self._cells.get(name)
        if view is None:
            region = self.topology.cell(name).region
            serving = [not serves or name in serves for serves in self._serves]
            rtts_ms = self.network.rtts_to_ms(region)
            view = self._cells[name] = CellView(name, self._indexes[region], rtts_ms, serving)
        return view

    # -- lower bounds -------------------------------------------------------------------------

    def least_ms(self, node: Node, to_cell_ms: Sequence[float]) -> list[float]:
        """No home that is so far from its cell does the agent's parts in less, wherever it is.

        Args:
            node: The agent.
            to_cell_ms: How far: an answer for each.
        """
        totals_ms = [0.0] * len(to_cell_ms)
        for table in node.tables:
            calls = table.step.expected_calls
            if calls > 0:
                inline_ms, queued_ms = table.least_inline_ms, table.least_queued_ms
                totals_ms = [
                    total_ms + calls * (inline_ms if inline_ms < queued_ms + way_ms else queued_ms + way_ms)
                    for total_ms, way_ms in zip(totals_ms, to_cell_ms, strict=True)
                ]
        for child in node.children:
            if child.calls > 0:
                (below_ms,) = self.least_ms(child, [0.0])
                totals_ms = [
                    total_ms + child.calls * (START_MS + way_ms + below_ms)
                    for total_ms, way_ms in zip(totals_ms, to_cell_ms, strict=True)
                ]
        return totals_ms

    def relaxed_front(self, node: Node) -> list[Option]:
        """What the agent's parts take and cost if no network lay between them: no home does better."""
        parts = [
            (table.step.expected_calls, table.relaxed_front())
            for table in node.tables
            if table.step.expected_calls > 0
        ]
        for child in node.children:
            if child.calls > 0:
                below = self.relaxed_front(child)
                parts.append((child.calls, [Choice(START_MS + ms, price, None) for ms, price, _ in below]))
        return self._combined(parts, self._bound_ms or math.inf)

    # -- one agent at one home ----------------------------------------------------------------

    def solve(self, node: Node, home: int, cell: CellView, budget_ms: float = math.inf) -> list[Option]:
        """The options of an agent at a home, fastest first; none where a part has no place.

        Under the latency objective the best one only. Under the price objective all that can be
        part of an optimum and take no longer than the budget.
        """
        parts: list[tuple[float, list[Choice]]] = []
        for table in node.tables:
            parts.append((table.step.expected_calls, self.step_choices(table, home, cell)))
        for child in node.children:
            to_cell_ms = cell.rtts_ms[home]
            parts.append((child.calls, [later(choice, to_cell_ms) for choice in self.sub_homes(child, cell)]))
        for index, (calls, choices) in enumerate(parts):
            if choices and calls == 0:
                # it does not weigh; where it is called after all, it goes where it is best
                parts[index] = (calls, [min(choices, key=self._preferred)])
            elif calls == 0:
                parts[index] = (calls, [Choice(0.0, 0.0, None)])
            elif not choices:
                return []
        return self._combined(parts, budget_ms)

    def step_choices(self, table: StepTable, home: int, cell: CellView) -> list[Choice]:
        """The places of one step for one home that can be part of an optimum."""
        body = table.bodies.get(home)
        if body is not None and not cell.serving[home]:
            body = None
        if table.step.dispatch == "inline":
            return [] if body is None else [Choice(body.inline_ms, table.prices[home], home)]
        to_cell_ms = cell.rtts_ms[home]
        choices = [later(choice, to_cell_ms) for choice in self._queued(table, cell)]
        if body is None:
            return choices
        if body.may_run_inline:
            choices.append(Choice(body.inline_ms, table.prices[home], home))
        elif home == cell.region:
            # all in one region: its payload crosses no distance
            choices.append(Choice(body.queued_ms + 2 * to_cell_ms, table.prices[home], home))
        else:
            return choices
        return self._front(choices)

    def _queued(self, table: StepTable, cell: CellView) -> list[Choice]:
        """The places of one step for any home of the cell, without the home's way to it."""
        found = cell.queued.get(id(table))
        if found is None:
            queued = table.fastest_queued if self._bound_ms is None else table.queued_front
            found = cell.queued[id(table)] = queued(cell)
        return found

    def sub_homes(self, node: Node, cell: CellView) -> list[Choice]:
        """The homes of one sub-agent for any parent's home of the cell, without the parent's way to it."""
        found = cell.handoffs.get(id(node))
        if found is None:
            found = cell.handoffs[id(node)] = self._front(self._sub_homes(node, cell))
        return found

    def _sub_homes(self, node: Node, cell: CellView) -> Iterable[Choice]:
        budget_ms = math.inf
        if self._bound_ms is not None and node.runs > 0:
            budget_ms = self._bound_ms / node.runs
        best_ms = math.inf
        least_ms = self.least_ms(node, cell.rtts_ms)
        for home in sorted(range(len(cell.rtts_ms)), key=cell.rtts_ms.__getitem__):
            to_cell_ms = cell.rtts_ms[home] + START_MS
            if self._bound_ms is None and to_cell_ms + least_ms[home] > best_ms:
                return  # the least grows with the distance: no later one is better
            if self.excluded_home(node, home, cell.name) is not None:
                continue
            for option in self.solve(node, home, cell, budget_ms - to_cell_ms):
                best_ms = min(best_ms, option.latency_ms + to_cell_ms)
                yield Choice(option.latency_ms + to_cell_ms, option.price, SubHome(home, option.picks))

    def excluded_as_root(self, home: int) -> Exclusion | None:
        """Why the run may not have its home there; None if it may."""
        return self.excluded_home(self.root, home, self.topology.regions[home].cell)

    def excluded_home(self, node: Node, home: int, cell: str) -> Exclusion | None:
        """Why the agent may not have its home there; None if it may."""
        region = self.topology.regions[home]
        return exclude_home(region, node.residency, cell, self.topology, self._snapshot)

    # -- what the choices take ----------------------------------------------------------------

    def has_place(self, table: StepTable, home: int, cell: CellView) -> bool:
        """Whether any region is left for the step."""
        if table.step.dispatch == "inline":
            return home in table.bodies and cell.serving[home]
        return any(cell.serving[place] for place in table.bodies)

    def call_ms(self, table: StepTable, place: int, home: int, cell: CellView) -> float:
        """One call of a step: expected time and spread."""
        body = table.bodies[place]
        if place == home and body.may_run_inline:
            return body.inline_ms
        distant = 0.0 if place == home == cell.region else table.transfer_ms
        return body.queued_ms + cell.rtts_ms[place] + cell.rtts_ms[home] + distant

    def steps_ms(self, home: int, cell: CellView, picks: Picks) -> float:
        """All steps of the root agent at the places that were picked for them."""
        return sum(
            table.step.expected_calls * self.call_ms(table, pick, home, cell)
            for table, pick in zip(self.root.tables, unfolded(picks), strict=False)
            if isinstance(pick, int)
        )

    # -- options ------------------------------------------------------------------------------

    def _preferred(self, choice: Choice) -> tuple[float, float]:
        latency_ms, price, _ = choice
        return (latency_ms, price) if self._bound_ms is None else (price, latency_ms)

    def _front(self, choices: Iterable[Choice]) -> list[Choice]:
        """What can be part of an optimum: the fastest, or the Pareto front under a bound."""
        if self._bound_ms is None:
            best = min(choices, key=latency_then_price, default=None)
            return [] if best is None else [best]
        return pareto(choices)

    def _combined(self, parts: Sequence[tuple[float, list[Choice]]], budget_ms: float) -> list[Option]:
        if self._bound_ms is None:
            latency_ms, price, picks = 0.0, 0.0, None
            for calls, ((part_ms, part_price, pick),) in parts:
                latency_ms += calls * part_ms
                price += calls * part_price
                picks = (picks, pick)
            return [Option(latency_ms, price, picks)]
        # the fastest of each part comes first
        rest_ms = sum(calls * choices[0].latency_ms for calls, choices in parts)
        front = [Option(0.0, 0.0)]
        for calls, choices in parts:
            rest_ms -= calls * choices[0].latency_ms
            front = combinations(front, calls, choices, budget_ms - rest_ms)
        return front


def _price(region: Region, requirements: Requirements) -> float:
    return sum(map(region.prices.__getitem__, requirements.offers))
