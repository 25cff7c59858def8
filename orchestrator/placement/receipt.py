"""The receipt: from the numbers of the search to the plan that says where and why."""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from orchestrator.placement.options import Pick, Picks, SubHome, unfolded
from orchestrator.placement.plan import AgentPlan, Candidate, Exclusion, StepPlan
from orchestrator.placement.profile import Dispatch
from orchestrator.placement.rules import emptied_by
from orchestrator.placement.search import Search
from orchestrator.placement.tables import CellView, Node, Rank, StepTable


class Unplaced(NamedTuple):
    """The first part of an agent that has no place from a home."""

    part: str
    """Name of the step or sub-agent."""

    rule: str
    reason: str


HEDGE_QUESTIONS = 6
"""Until 63 times the p95 has passed: by then a region that is slow has been set aside."""

CANDIDATES_KEPT = 16_000
"""In all kept receipts together: two to three kilobytes each."""


class KeptReceipts:
    """Receipts that runs of the same home share; those used last are kept."""

    def __init__(self) -> None:
        self._plans: dict[Hashable, tuple[Picks, AgentPlan, int]] = {}
        self._candidates = 0

    def get(self, key: Hashable, picks: Picks) -> AgentPlan | None:
        """The plan kept for a home, if it has the same picks."""
        kept = self._plans.pop(key, None)
        if kept is None:
            return None
        self._plans[key] = kept
        return kept[1] if kept[0] == picks else None

    def put(self, key: Hashable, picks: Picks, plan: AgentPlan) -> None:
        """Keeps a plan, unless it is larger than all that may be kept."""
        candidates = 1 + sum(len(step.candidates) for part in plan.walk() for step in part.steps.values())
        self._drop(key)
        if candidates > CANDIDATES_KEPT:
            return
        self._plans[key] = picks, plan, candidates
        self._candidates += candidates
        while self._candidates > CANDIDATES_KEPT:
            self._drop(next(iter(self._plans)))

    def clear(self) -> None:
        """Keeps none of them any longer."""
        self._plans.clear()
        self._candidates = 0

    def _drop(self, key: Hashable) -> None:
        kept = self._plans.pop(key, None)
        if kept is not None:
            self._candidates -= kept[2]


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
        self._nearest: dict[tuple[int, str], list[Rank]] = {}

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
            standby_jurisdictions=tuple(
                standby.jurisdictions for standby in self._search.topology.standbys(region)
            ),
            residency=node.residency,
            steps=steps,
            without_place=node.agent.without_place,
            budget=node.agent.budget,
            expected_calls=node.calls,
            handoffs=handoffs,
        )

    def _step_plan(self, table: StepTable, home: int, cell: CellView, pick: Pick) -> StepPlan:
        places = self._ranked(table, home, cell)
        if isinstance(pick, int):
            places = [pick, *(place for place in places if place != pick)]
        step = table.step
        candidates = tuple(self._candidate(table, place, home, cell) for place in places[: self._limit])
        hedge_after_ms = self._hedge_after_ms(table, places, candidates)
        return StepPlan(
            step=step.name,
            kind=step.kind,
            expected_calls=step.expected_calls,
            candidates=candidates,
            excluded=dict(islice(self._excluded(table, cell), self._limit)),
            repeatable=step.repeatable,
            tokens=step.tokens,
            hedge_after_ms=hedge_after_ms,
            hedge_questions=1 if hedge_after_ms is None else HEDGE_QUESTIONS,
        )

    def _hedge_after_ms(
        self, table: StepTable, places: list[int], candidates: tuple[Candidate, ...]
    ) -> float | None:
        """None for a step that must not run twice or has nowhere else to go."""
        if not table.step.repeatable or len(candidates) < 2:
            return None
        return table.bodies[places[0]].hedge_after_ms(candidates[0].cost)

    def _ranked(self, table: StepTable, home: int, cell: CellView) -> list[int]:
        """The places for this home, best first; under a limit at least as many as it asks for."""
        at_home = home in table.bodies and cell.serving[home]
        ranked = [entry for entry in self._ranked_for_any_home(table, cell) if entry[2] != home]
        if table.step.dispatch == "inline":
            # at home; elsewhere, and queued, only when the home turns out not to be able to
            return [*([home] if at_home else []), *(place for _, _, place in ranked)]
        if at_home:
            time_ms = self._search.call_ms(table, home, home, cell) - cell.rtts_ms[home]
            price = table.prices[home]
            insort(ranked, (price, time_ms, home) if self._by_price else (time_ms, price, home))
        return [place for _, _, place in ranked]

    def _ranked_for_any_home(self, table: StepTable, cell: CellView) -> list[Rank]:
        if self._limit is None:
            return table.ranked(cell, by_price=self._by_price, count=None)
        key = (id(table), cell.name)
        found = self._nearest.get(key)
        if found is None:
            # one more, because the home is ranked anew
            found = table.ranked(cell, by_price=self._by_price, count=self._limit + 1)
            self._nearest[key] = found
        return found

    def _excluded(self, table: StepTable, cell: CellView) -> Iterable[tuple[str, Exclusion]]:
        if cell.serves_all:
            return table.excluded.items()
        return chain(table.excluded.items(), self._not_serving(table, cell))

    def _not_serving(self, table: StepTable, cell: CellView) -> Iterator[tuple[str, Exclusion]]:
        """The regions that the other rules allow and that do not serve the run's cell."""
        for place in table.bodies:
            if not cell.serving[place]:
                reason = f"its workers do not serve cell {cell.name}"
                yield self._regions[place].name, Exclusion(rule="cell", reason=reason)

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
