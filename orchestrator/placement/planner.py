"""Home and places of a whole run, solved together and exactly for the cost model.

Given a home (and with it a cell), a step's data goes home → place → home, so the choices of
the steps are independent of each other; sub-agents have homes of their own in the same cell,
solved by dynamic programming over the agent tree. Under the latency objective each part has
one best option. Under the price objective a part keeps its whole Pareto front of latency and
price, because what is cheapest under the bound depends on what the other parts take.

Pure: no I/O, no clock, no log, no randomness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from orchestrator.errors import PlacementError
from orchestrator.geography import Origin
from orchestrator.placement.cost import START_MS, CostModel
from orchestrator.placement.network import Network
from orchestrator.placement.plan import AgentPlan, Candidate, Exclusion, HomeCandidate, Plan, StepPlan
from orchestrator.placement.profile import AgentProfile, Dispatch, StepProfile
from orchestrator.placement.rules import exclude_by_cell, exclude_home, exclude_place, summary
from orchestrator.placement.snapshot import Snapshot
from orchestrator.requirements import Requirements
from orchestrator.topology import Region, Topology

HYSTERESIS = 0.10
"""A run's usual home is kept while it costs at most this much more than the best one."""


@dataclass(frozen=True)
class _Option:
    """One way to do a part of the run: what it takes, and the choices that it consists of."""

    latency_ms: float = 0.0
    price: float = 0.0
    places: tuple[Candidate | None, ...] = ()
    """One for each step of the agent; None for a step that is not expected and has no place."""

    handoffs: tuple[tuple[str, _Option], ...] = ()
    """Home and option of each sub-agent."""


@dataclass
class _Solved:
    """Everything known about one agent at one home."""

    front: list[_Option]
    ranked: list[list[Candidate]] = field(default_factory=list[list[Candidate]])
    excluded: list[dict[str, Exclusion]] = field(default_factory=list[dict[str, Exclusion]])


def plan(
    agent: AgentProfile,
    origin: Origin,
    topology: Topology,
    snapshot: Snapshot | None = None,
    *,
    requirements: Requirements | None = None,
    homes: Iterable[str] | None = None,
    usual_home: str | None = None,
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

    Raises:
        PlacementError: A step or the run has no place left; names the rule that emptied it.
    """
    solver = _Solver(topology, snapshot or Snapshot(), agent, requirements or Requirements())
    considered = [region for region in topology.regions if homes is None or region.name in set(homes)]
    return solver.solve(origin, considered, usual_home)


class _Solver:
    def __init__(
        self, topology: Topology, snapshot: Snapshot, agent: AgentProfile, requirements: Requirements
    ) -> None:
        self._topology = topology
        self._snapshot = snapshot
        self._network = Network(topology, snapshot)
        self._costs = CostModel(self._network, snapshot)
        self._agent = agent
        self._requirements = requirements.merged(agent.requirements)
        # the level nearer to the caller has stated its objective for this very run
        self._objective = requirements.objective or agent.requirements.objective
        self._bound_ms = self._objective.latency_bound_ms if self._objective else None
        self._solved: dict[tuple[int, Requirements, str, str], _Solved] = {}
        self._places: dict[tuple[str, Requirements], tuple[list[Region], dict[str, Exclusion]]] = {}
        _refuse_cycles(agent, ())

    # -- the run ------------------------------------------------------------------------------

    def solve(self, origin: Origin, regions: Sequence[Region], usual_home: str | None) -> Plan:
        excluded: dict[str, Exclusion] = {}
        found: list[tuple[HomeCandidate, _Option]] = []
        for region in regions:
            exclusion = exclude_home(region, self._requirements, self._topology, self._snapshot)
            if exclusion:
                excluded[region.name] = exclusion
                continue
            solved = self._solve(self._agent, self._requirements, region.name, region.cell)
            if not solved.front:
                excluded[region.name] = self._why_no_place(self._agent, solved)
                continue
            start_ms = self._start_ms(origin, region)
            option = self._best(solved.front, start_ms)
            if option is None:
                fastest_ms = min(option.latency_ms for option in solved.front) + start_ms
                excluded[region.name] = Exclusion(
                    rule="latency bound",
                    reason=f"takes {fastest_ms:.0f} ms at the least, bound {self._bound_ms:.0f} ms",
                )
                continue
            found.append((self._home(region, option, start_ms), option))
        if not found:
            self._fail(excluded)
        found.sort(key=lambda pair: self._rank(pair[0].latency_ms, pair[0].price))
        self._keep_usual(found, usual_home)
        home, option = found[0]
        return Plan(
            origin=origin,
            cell=home.cell,
            root=self._agent_plan(self._agent, self._requirements, home.region, home.cell, option),
            residency=self._requirements.residency,
            latency_ms=home.latency_ms,
            price=home.price,
            homes=tuple(candidate for candidate, _ in found),
            excluded_homes=excluded,
        )

    def _start_ms(self, origin: Origin, home: Region) -> float:
        """Start and result: a request and its answer from the origin to the cell, twice, and the
        home worker's own trip to its cell for the workflow task.
        """
        cell_region = self._topology.cell(home.cell).region
        to_cell_ms = self._network.rtt_from_ms(origin, cell_region)
        return START_MS + 2 * to_cell_ms + self._network.rtt_ms(home.name, cell_region)

    def _home(self, region: Region, option: _Option, start_ms: float) -> HomeCandidate:
        steps_ms = sum(
            step.expected_calls * place.cost.latency_ms
            for step, place in zip(self._agent.steps, option.places, strict=True)
            if place is not None
        )
        return HomeCandidate(
            region=region.name,
            cell=region.cell,
            start_ms=start_ms,
            steps_ms=steps_ms,
            handoffs_ms=option.latency_ms - steps_ms,
            price=option.price,
        )

    def _best(self, front: list[_Option], start_ms: float) -> _Option | None:
        """The option that the objective prefers; None if the bound leaves none."""
        if self._bound_ms is None:
            return front[0]
        under = [option for option in front if option.latency_ms + start_ms <= self._bound_ms]
        return min(under, key=lambda option: (option.price, option.latency_ms), default=None)

    def _rank(self, latency_ms: float, price: float) -> tuple[float, float]:
        return (latency_ms, price) if self._bound_ms is None else (price, latency_ms)

    def _keep_usual(self, found: list[tuple[HomeCandidate, _Option]], usual_home: str | None) -> None:
        usual = next((pair for pair in found if pair[0].region == usual_home), None)
        if usual is None or self._bound_ms is not None:
            return
        if usual[0].latency_ms <= found[0][0].latency_ms * (1 + HYSTERESIS):
            found.remove(usual)
            found.insert(0, usual)

    # -- one agent at one home ----------------------------------------------------------------

    def _solve(self, agent: AgentProfile, requirements: Requirements, home: str, cell: str) -> _Solved:
        key = (id(agent), requirements, home, cell)
        solved = self._solved.get(key)
        if solved is None:
            solved = self._solved[key] = self._solve_steps(agent, requirements, home, cell)
            if solved.front:
                for handoff in agent.handoffs:
                    below = self._handoff_front(
                        handoff.agent, handoff.expected_calls, requirements, home, cell
                    )
                    solved.front = self._pruned(
                        _Option(
                            option.latency_ms + more.latency_ms,
                            option.price + more.price,
                            option.places,
                            (*option.handoffs, *more.handoffs),
                        )
                        for option in solved.front
                        for more in below
                    )
        return solved

    def _solve_steps(self, agent: AgentProfile, requirements: Requirements, home: str, cell: str) -> _Solved:
        solved = _Solved([_Option()])
        for step in agent.steps:
            ranked, excluded = self._candidates(step, requirements, home, cell)
            solved.ranked.append(ranked)
            solved.excluded.append(excluded)
            choices: Sequence[Candidate | None] = ranked
            if not ranked and step.expected_calls == 0:
                choices = (None,)  # it may never be called; the run fails then, and only then
            solved.front = self._pruned(
                _Option(
                    option.latency_ms + (step.expected_calls * place.cost.latency_ms if place else 0.0),
                    option.price + (step.expected_calls * place.cost.price if place else 0.0),
                    (*option.places, place),
                )
                for option in solved.front
                for place in choices
            )
        return solved

    def _handoff_front(
        self, agent: AgentProfile, calls: float, requirements: Requirements, home: str, cell: str
    ) -> list[_Option]:
        """The options of one sub-agent: any home in this cell, its own steps from there."""
        merged = requirements.merged(agent.requirements)
        cell_region = self._topology.cell(cell).region
        options: list[_Option] = []
        for region in self._topology.regions:
            if exclude_by_cell(region, cell, self._topology) or self._excluded_home(region, merged):
                continue
            handoff_ms = self._costs.queue_network_ms(region.name, home, cell_region) + START_MS
            for option in self._solve(agent, merged, region.name, cell).front:
                options.append(
                    _Option(
                        calls * (option.latency_ms + handoff_ms),
                        calls * option.price,
                        handoffs=((region.name, option),),
                    )
                )
        return self._pruned(options)

    def _excluded_home(self, region: Region, requirements: Requirements) -> Exclusion | None:
        # a sub-agent lives in its parent's cell, so its home's own cell does not matter
        return exclude_place(
            region, Requirements(residency=requirements.residency), self._topology, self._snapshot
        )

    def _pruned(self, options: Iterable[_Option]) -> list[_Option]:
        """What can still be part of an optimum: the fastest, or the Pareto front under a bound."""
        ordered = sorted(options, key=lambda option: (option.latency_ms, option.price))
        if self._bound_ms is None:
            return ordered[:1]
        front: list[_Option] = []
        for option in ordered:
            if not front or option.price < front[-1].price:
                front.append(option)
        return front

    # -- one step at one home -----------------------------------------------------------------

    def _candidates(
        self, step: StepProfile, requirements: Requirements, home: str, cell: str
    ) -> tuple[list[Candidate], dict[str, Exclusion]]:
        """Every place that the rules leave for the step, ranked, and why the others are out."""
        regions, excluded = self._allowed(step, requirements)
        excluded = dict(excluded)
        cell_region = self._topology.cell(cell).region
        ranked: list[Candidate] = []
        for region in regions:
            exclusion = exclude_by_cell(region, cell, self._topology)
            if not exclusion and step.dispatch == "inline" and region.name != home:
                exclusion = Exclusion(
                    rule="inline", reason=f"the step is inline, so it runs at home ({home})"
                )
            if exclusion:
                excluded[region.name] = exclusion
                continue
            inline = region.name == home and self._costs.may_run_inline(step, home)
            ranked.append(
                self._candidate(
                    step, requirements, region, home, cell_region, "inline" if inline else "queue"
                )
            )
        ranked.sort(key=lambda candidate: self._rank(candidate.cost.latency_ms, candidate.cost.price))
        return ranked, excluded

    def _candidate(
        self,
        step: StepProfile,
        requirements: Requirements,
        region: Region,
        home: str,
        cell_region: str,
        dispatch: Dispatch,
    ) -> Candidate:
        needed = requirements.merged(step.requirements).offers
        price = sum(offer.price for offer in region.offers if offer.key in needed)
        return Candidate(
            region=region.name,
            dispatch=dispatch,
            cost=self._costs.step_cost(
                step,
                place=region.name,
                home=home,
                cell_region=cell_region,
                dispatch=dispatch,
                price=price,
            ),
            jurisdictions=region.jurisdictions,
            offers=frozenset(str(offer.key) for offer in region.offers),
        )

    def _allowed(
        self, step: StepProfile, requirements: Requirements
    ) -> tuple[list[Region], dict[str, Exclusion]]:
        """What the rules that know no home leave; the same for every home, so asked once."""
        merged = requirements.merged(step.requirements)
        key = (step.name, merged)
        if key not in self._places:
            allowed: list[Region] = []
            excluded: dict[str, Exclusion] = {}
            for region in self._topology.regions:
                exclusion = exclude_place(region, merged, self._topology, self._snapshot)
                if exclusion:
                    excluded[region.name] = exclusion
                else:
                    allowed.append(region)
            self._places[key] = (allowed, excluded)
        return self._places[key]

    # -- the answer ---------------------------------------------------------------------------

    def _agent_plan(
        self, agent: AgentProfile, requirements: Requirements, home: str, cell: str, option: _Option
    ) -> AgentPlan:
        solved = self._solve(agent, requirements, home, cell)
        steps = {
            step.name: StepPlan(
                step=step.name,
                kind=step.kind,
                expected_calls=step.expected_calls,
                candidates=_chosen_first(ranked, place),
                excluded=excluded,
                repeatable=step.repeatable,
            )
            for step, ranked, excluded, place in zip(
                agent.steps, solved.ranked, solved.excluded, option.places, strict=True
            )
        }
        handoffs = {
            handoff.agent.name: self._agent_plan(
                handoff.agent, requirements.merged(handoff.agent.requirements), below_home, cell, below
            )
            for handoff, (below_home, below) in zip(agent.handoffs, option.handoffs, strict=True)
        }
        return AgentPlan(
            agent=agent.name,
            home=home,
            home_jurisdictions=self._topology.region(home).jurisdictions,
            steps=steps,
            handoffs=handoffs,
        )

    # -- no answer ----------------------------------------------------------------------------

    def _why_no_place(self, agent: AgentProfile, solved: _Solved) -> Exclusion:
        for step, ranked, excluded in zip(agent.steps, solved.ranked, solved.excluded, strict=False):
            if not ranked and step.expected_calls > 0:
                return Exclusion(
                    rule="no place", reason=f"step {step.name} has none: {summary(excluded.items())}"
                )
        return Exclusion(rule="no place", reason="a sub-agent has no home from here")

    def _fail(self, excluded: Mapping[str, Exclusion]) -> NoReturn:
        for agent, requirements in _tree(self._agent, self._requirements):
            for step in agent.steps:
                if step.expected_calls > 0:
                    self._fail_step(step, requirements)
        rules = {exclusion.rule for exclusion in excluded.values()}
        rule = next((rule for rule in ("residency", "latency bound", "no place") if rule in rules), "down")
        raise PlacementError(
            f"agent {self._agent.name} has no home, because of the rule {rule!r}: "
            f"{summary(excluded.items())}",
            step=self._agent.name,
            rule=rule,
            excluded={name: f"{exclusion.rule}: {exclusion.reason}" for name, exclusion in excluded.items()},
        )

    def _fail_step(self, step: StepProfile, requirements: Requirements) -> None:
        """Raises if no region at all is left for the step, whatever the home."""
        allowed, excluded = self._allowed(step, requirements)
        if allowed:
            return
        rules = [exclusion.rule for exclusion in excluded.values()]
        # the rule that removed the last candidates: needs are judged among permitted regions only
        rule = next(rule for rule in ("needs", "residency", "draining", "down") if rule in rules)
        raise PlacementError(
            f"step {step.name} has no place, because of the rule {rule!r}: {summary(excluded.items())}",
            step=step.name,
            rule=rule,
            excluded={name: f"{exclusion.rule}: {exclusion.reason}" for name, exclusion in excluded.items()},
        )


def _chosen_first(ranked: list[Candidate], chosen: Candidate | None) -> tuple[Candidate, ...]:
    if chosen is None:
        return ()
    return (chosen, *(candidate for candidate in ranked if candidate is not chosen))


def _tree(agent: AgentProfile, requirements: Requirements) -> Iterable[tuple[AgentProfile, Requirements]]:
    yield agent, requirements
    for handoff in agent.handoffs:
        yield from _tree(handoff.agent, requirements.merged(handoff.agent.requirements))


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
