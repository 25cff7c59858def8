"""From what an application declares to the plan of a run that is about to start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from orchestrator.agents import AgentDefinition, StepDefinition, kind_of
from orchestrator.geography import Origin, resolve_origin
from orchestrator.placement import START_THEN_RESULT, AgentProfile, Plan, Planner, Snapshot, StepProfile
from orchestrator.requirements import Needs, Requirements, requirements
from orchestrator.topology import Topology

RECEIPT_LIMIT = 16
"""Candidates and exclusions in each receipt of a run that starts. The plan travels in a header and is
kept by the history; over hundreds of regions the whole receipt does not belong there."""


ORIGINS = 10_000
"""So many origins are kept, and usual homes of agents and origins."""

PROFILES = 1024
"""So many agents are kept as the planner sees them; more than an application has."""

PLANS = 1024
"""So many plans are kept for further runs of the same agent from the same origin."""


class _Asked(NamedTuple):
    """Of a plan: for whom, and what it may look like."""

    origin: Origin
    requirements: Requirements
    homes: frozenset[str] | None
    usual_home: str | None
    round_trips: int
    limit: int | None


class RunPlanner:
    """Plans runs over one topology, with the readings of the moment.

    What a plan needs of an agent is found once a reading: while ``snapshot`` gives an equal one,
    further plans reuse it. Who asks for the same again gets the same object.

    Args:
        topology: What exists.
        agents: Declared agents by name. Workflows that are not among them are planned with the
            known steps and rules.
        steps: Steps of the application.
        rules: Needs of activities without ``@step``, by name or pattern.
        snapshot: Gives the latest reading of the fleet; called for every plan.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        agents: Mapping[str, AgentDefinition] | None = None,
        steps: Iterable[StepDefinition] = (),
        rules: Mapping[str, Needs] | None = None,
        snapshot: Callable[[], Snapshot] = Snapshot,
    ) -> None:
        self.topology = topology
        self._agents = dict(agents or {})
        self._steps = tuple(steps)
        self._rules = tuple(_rule_profile(pattern, needs) for pattern, needs in (rules or {}).items())
        self._snapshot = snapshot
        self._origins: dict[str, Origin] = {}
        self._planner: Planner | None = None
        self._profiles: dict[tuple[str, bool], tuple[str | AgentDefinition, AgentProfile]] = {}
        self._usual_homes: dict[tuple[str, str, Requirements], str] = {}
        self._plans: dict[tuple[int, _Asked], tuple[AgentProfile, Plan]] = {}
        self._coordinates = {region.name: region.coordinates for region in topology.regions}

    def plan(
        self,
        agent: str | AgentDefinition,
        origin: str | Origin,
        *,
        narrowed: Requirements | None = None,
        homes: Iterable[str] | None = None,
        inline: bool = True,
        round_trips: int = START_THEN_RESULT,
        limit: int | None = None,
    ) -> Plan:
        """Plan a run.

        Args:
            agent: Its definition, or the name of its workflow.
            origin: Where the user is: a region, a country code, ``lat,lon`` or a city.
            narrowed: Requirements of this very run.
            homes: The regions that may be its home; all if left out.
            inline: False where the workers of the home are not known to have the steps.
            round_trips: From the user to the cell, as the run is started.
            limit: At most so many candidates and exclusions in each receipt; all if left out.

        Raises:
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
        """
        profile = self._known_profile(agent, inline)
        if isinstance(origin, str):
            origin = self._resolved(origin)
        narrowed = narrowed or Requirements()
        usual = (profile.name, origin.label, narrowed)
        asked = _Asked(
            origin=origin,
            requirements=narrowed,
            homes=None if homes is None else frozenset(homes),
            usual_home=self._usual_homes.get(usual),
            round_trips=round_trips,
            limit=limit,
        )
        planned = self._planned(profile, asked)
        if len(self._usual_homes) > ORIGINS:
            self._usual_homes.clear()
        self._usual_homes[usual] = planned.home
        return planned

    def _planned(self, profile: AgentProfile, asked: _Asked) -> Plan:
        """The plan of the moment; the same object for whoever asks for the same."""
        planner = self._current_planner()
        # a whole receipt over many regions is too large to be kept
        known = self._plans.get((id(profile), asked)) if asked.limit is not None else None
        if known is not None:
            return known[1]
        planned = planner.plan(profile, **asked._asdict())
        if asked.limit is not None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            # the profile is kept with it, so that no other one gets its identity
            self._plans[id(profile), asked] = profile, planned
        return planned

    def profile(self, agent: str | AgentDefinition) -> AgentProfile:
        """What the planner knows of an agent."""
        definition = self._agents.get(agent) if isinstance(agent, str) else agent
        if definition is None:
            steps = tuple(step.profile(1.0) for step in self._steps)
            return AgentProfile(name=str(agent), steps=steps + self._rules)
        profile = definition.profile(self._steps)
        named = {step.name for step in profile.steps}
        rules = tuple(rule for rule in self._rules if rule.name not in named)
        if definition.steps is not None:
            rules = tuple(replace(rule, expected_calls=0.0) for rule in rules)
        return replace(profile, steps=profile.steps + rules)

    def _known_profile(self, agent: str | AgentDefinition, inline: bool) -> AgentProfile:
        key = (agent if isinstance(agent, str) else agent.name, inline)
        known = self._profiles.get(key)
        if known is not None and (known[0] is agent or known[0] == agent):
            return known[1]
        profile = self.profile(agent)
        if not inline:
            profile = _queued(profile)
        if len(self._profiles) >= PROFILES:
            self._profiles.clear()
        self._profiles[key] = agent, profile
        return profile

    def _resolved(self, text: str) -> Origin:
        origin = self._origins.get(text)
        if origin is None:
            origin = resolve_origin(text, self._coordinates)
            if len(self._origins) >= ORIGINS:
                self._origins.clear()
            self._origins[text] = origin
        return origin

    def _current_planner(self) -> Planner:
        snapshot = self._snapshot()
        # readings of two moments differ in their date, so this compares no more than that
        if self._planner is None or self._planner.snapshot != snapshot:
            self._planner = Planner(self.topology, snapshot)
            self._plans.clear()
        return self._planner


def _rule_profile(pattern: str, needs: Needs) -> StepProfile:
    return StepProfile(
        name=pattern,
        kind=kind_of(needs),
        requirements=requirements(needs=needs),
        repeatable=False,  # nobody has said that it may run twice
    )


def _queued(agent: AgentProfile) -> AgentProfile:
    queued: Callable[[StepProfile], StepProfile] = partial(replace, dispatch="queue")
    return replace(agent, steps=tuple(queued(step) for step in agent.steps))
