"""The receipt: from the numbers of the search to the plan that says where and why."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from orchestrator.placement.plan import AgentPlan, Candidate, Exclusion, StepPlan
from orchestrator.placement.profile import Dispatch
from orchestrator.placement.rules import emptied_by
from orchestrator.placement.search import CellView, Node, Pick, Picks, Search, StepTable, SubHome, unfolded


class Unplaced(NamedTuple):
    """The first part of an agent that has no place from a home."""

    part: str
    """Name of the step or sub-agent."""

    rule: str
    reason: str


class Receipts:
    """Writes receipts from a search.

    Args:
        search: The search that chose.
        by_price: Whether price is the objective: candidates are ranked by it.
        limit: How many candidates and exclusions each part holds; all if None.
    """

    def __init__(self, search: Search, *, by_price: bool, limit: int | None) -> None:
        self._search = search
        self._regions = search.topology.regions
        self._by_price = by_price
        self._limit = limit

    def agent_plan(self, node: Node, home: int, cell: CellView, picks: Picks) -> AgentPlan:
        """The plan of an agent at a home, with the choices that the search made."""
        chosen = unfolded(picks)
        steps: dict[str, StepPlan] = {}
        for table, pick in zip(node.tables, chosen, strict=False):
            steps[table.step.name] = self._step_plan(table, home, cell, pick)
        handoffs: dict[str, AgentPlan] = {}
        for child, pick in zip(node.children, chosen[len(node.tables) :], strict=True):
            if isinstance(pick, SubHome):
                handoffs[child.agent.name] = self.agent_plan(child, pick.region, cell, pick.picks)
        region = self._regions[home]
        return AgentPlan(
            agent=node.agent.name,
            home=region.name,
            home_jurisdictions=region.jurisdictions,
            residency=node.residency,
            steps=steps,
            handoffs=handoffs,
        )

    def _step_plan(self, table: StepTable, home: int, cell: CellView, pick: Pick) -> StepPlan:
        excluded = dict(table.excluded)
        ranked: list[tuple[float, float, int]] = []
        for place in table.bodies:
            exclusion = self._exclusion(table, place, home, cell)
            if exclusion:
                excluded[self._regions[place].name] = exclusion
                continue
            latency_ms, price = self._search.call_ms(table, place, home, cell), table.prices[place]
            first, second = (price, latency_ms) if self._by_price else (latency_ms, price)
            ranked.append((first, second, place))
        places = [place for _, _, place in sorted(ranked)]
        if isinstance(pick, int):
            places = [pick, *(place for place in places if place != pick)]
        step = table.step
        return StepPlan(
            step=step.name,
            kind=step.kind,
            expected_calls=step.expected_calls,
            candidates=tuple(self._candidate(table, place, home, cell) for place in places[: self._limit]),
            excluded=_first(excluded, self._limit),
            repeatable=step.repeatable,
        )

    def _exclusion(self, table: StepTable, place: int, home: int, cell: CellView) -> Exclusion | None:
        """Why a region that the other rules allow is no place for this very home."""
        if not cell.serving[place]:
            return Exclusion(rule="cell", reason=f"its workers do not serve cell {cell.name}")
        if table.step.dispatch == "inline" and place != home:
            at_home = self._regions[home].name
            return Exclusion(rule="inline", reason=f"the step is inline, so it runs at home ({at_home})")
        return None

    def _candidate(self, table: StepTable, place: int, home: int, cell: CellView) -> Candidate:
        region, body = self._regions[place], table.bodies[place]
        dispatch: Dispatch = "inline" if place == home and body.may_run_inline else "queue"
        return Candidate(
            region=region.name,
            dispatch=dispatch,
            cost=body.cost(
                dispatch,
                network_ms=cell.rtts_ms[place] + cell.rtts_ms[home],
                transfer_ms=0.0 if place == home == cell.region else table.transfer_ms,
                price=table.prices[place],
            ),
            jurisdictions=region.jurisdictions,
            offers=region.offered_names,
        )


def unplaced(search: Search, node: Node, home: int, cell: CellView) -> Unplaced | None:
    """What keeps an agent from a home that the rules allow; None if every part has a place."""
    for table in node.tables:
        if table.step.expected_calls == 0 or search.has_place(table, home, cell):
            continue
        name = table.step.name
        if table.step.dispatch == "inline":
            return Unplaced(name, "inline", f"step {name} runs inline, so at home, and may not run here")
        rule = "cell" if table.bodies else emptied_by(table.excluded.values())
        return Unplaced(name, rule, f"step {name} has no place that serves cell {cell.name}")
    for child in node.children:
        if child.calls > 0:
            below = _no_home(search, child, cell)
            if below is not None:
                return below
    return None


def _no_home(search: Search, node: Node, cell: CellView) -> Unplaced | None:
    """Why a sub-agent has no home in a cell; None if it has one."""
    excluded: list[Exclusion] = []
    deeper: Unplaced | None = None
    for home in range(len(cell.serving)):
        exclusion = search.excluded_home(node, home, cell.name)
        if exclusion is None:
            below = unplaced(search, node, home, cell)
            if below is None:
                return None
            deeper = deeper or below
            exclusion = Exclusion(rule="no place", reason=below.reason)
        excluded.append(exclusion)
    name = node.agent.name
    if deeper is not None:
        return Unplaced(deeper.part, deeper.rule, f"sub-agent {name} has no home: {deeper.reason}")
    rule = emptied_by(excluded)
    reason = next(exclusion.reason for exclusion in excluded if exclusion.rule == rule)
    return Unplaced(name, rule, f"sub-agent {name} has no home in cell {cell.name}: {rule} ({reason})")


def _first(excluded: Mapping[str, Exclusion], limit: int | None) -> dict[str, Exclusion]:
    return dict(islice(excluded.items(), limit))
