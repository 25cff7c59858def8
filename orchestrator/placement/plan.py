"""The plan of a run: its home, ranked places for each step, and the receipt that says why.

A plan is made before the run starts, travels in a header of the start request and is kept by
the run's history. These are its values; ``planner`` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from orchestrator.budgets import Budget
from orchestrator.geography import Origin
from orchestrator.placement.cost import StepCost
from orchestrator.placement.known import KnownOr
from orchestrator.placement.profile import Dispatch, WithoutPlace
from orchestrator.requirements import Residency

Names = Annotated[
    frozenset[str], PlainSerializer(sorted, return_type=list[str], when_used="json-unless-none")
]
"""A set of names, in order where it is written."""


class _Value(BaseModel):
    # a plan from a newer version may hold more than this one knows; that is not an error
    model_config = ConfigDict(frozen=True, extra="ignore")


class Exclusion(_Value):
    """Why a region is no candidate: the rule, and what broke it."""

    rule: str
    """``residency``, ``needs``, ``down``, ``draining`` or ``cell``; of a home also ``inline``,
    ``cell down``, ``homes`` (not asked for), ``no place`` (of a step or sub-agent), ``latency bound``,
    ``slower`` and ``dearer`` (out of the best one's reach, so not computed to the end)."""

    reason: str


class Candidate(_Value):
    """A place that a step may have, and what it would cost there."""

    region: str
    dispatch: Annotated[Dispatch, KnownOr("queue")]
    cost: StepCost
    jurisdictions: Names = frozenset()
    """Of the region, so that a block of the agent can narrow the residency without the topology."""

    offers: Names = frozenset()
    """Of the region, as ``model "chat"``."""


class StepPlan(_Value):
    """Where one step goes, and why: its part of the receipt."""

    step: str
    kind: str
    expected_calls: float
    candidates: tuple[Candidate, ...]
    """Ranked, the chosen one first. Empty where the step cannot be placed."""

    excluded: Mapping[str, Exclusion] = Field(default_factory=dict[str, Exclusion])
    """Regions that the hard rules removed."""

    repeatable: bool = True
    tokens: int | None = None
    """What its models may generate at most in one call; None where its author did not say."""

    hedge_after_ms: float | None = None
    """When it takes unusually long, and a second dispatch is wanted: the p95 of its call, as far as it was
    learned. None for never."""

    hedge_questions: int = 1
    """How often a run asks whether there may be one, each time after twice as long."""

    @property
    def chosen(self) -> Candidate:
        """The best candidate."""
        return self.candidates[0]


class HomeCandidate(_Value):
    """A home that a run may have, and what the whole run would cost from there."""

    region: str
    cell: str
    start_ms: float
    """Reaching the cell from the origin to start, and again for the result."""

    steps_ms: float
    """All steps at their best places, expected calls and spread included."""

    handoffs_ms: float
    """All sub-agents, with their steps."""

    price: float

    @property
    def latency_ms(self) -> float:
        """The total."""
        return self.start_ms + self.steps_ms + self.handoffs_ms


class AgentPlan(_Value):
    """Home and places of one agent, and of the sub-agents that it hands off to."""

    agent: str
    home: str
    home_jurisdictions: Names = frozenset()
    """Of the home, so that a block of the agent can narrow the residency without the topology."""

    standby_jurisdictions: tuple[Names, ...] = ()
    """Of each region that stands in for the home while its workers are gone."""

    residency: Residency
    """Of this agent: the run's, narrowed by its own. Workers apply it once more."""

    steps: Mapping[str, StepPlan]
    """By step name or pattern."""

    without_place: Annotated[WithoutPlace, KnownOr("wait")] = "wait"
    """What it does while no place of a step can do it."""

    budget: Budget | None = None
    """What its author lets each of its runs use."""

    expected_calls: float = 1.0
    """How often the agent above it is expected to start it."""

    handoffs: Mapping[str, AgentPlan] = Field(default_factory=dict[str, "AgentPlan"])

    @property
    def homebound(self) -> bool:
        """Whether a region that stands in for the home lies outside the residency: its runs wait for it."""
        return not all(map(self.residency.covers, self.standby_jurisdictions))

    def step(self, name: str) -> StepPlan | None:
        """The plan of this step: by its name, else by the first pattern that matches."""
        exact = self.steps.get(name)
        if exact is not None:
            return exact
        return next((plan for pattern, plan in self.steps.items() if fnmatchcase(name, pattern)), None)

    def narrowed(self, residency: Residency) -> AgentPlan:
        """The same plan under one more residency: places outside it are gone, here and below.

        Homes stay; whoever starts the agent sees from ``home_jurisdictions`` whether it may.
        """
        steps = {
            name: step.model_copy(
                update={
                    "candidates": tuple(
                        candidate
                        for candidate in step.candidates
                        if residency.covers(candidate.jurisdictions)
                    )
                }
            )
            for name, step in self.steps.items()
        }
        return self.model_copy(
            update={
                "residency": self.residency.narrowed(residency),
                "steps": steps,
                "handoffs": {name: below.narrowed(residency) for name, below in self.handoffs.items()},
            }
        )

    def walk(self) -> Iterator[AgentPlan]:
        """This agent and all below it."""
        yield self
        for handoff in self.handoffs.values():
            yield from handoff.walk()


class Plan(_Value):
    """The plan of a whole run."""

    version: int = 1
    origin: Origin
    cell: str
    root: AgentPlan
    residency: Residency
    """Of the run and its agent: the rule that has been applied; workers apply it once more."""

    latency_ms: float
    """Predicted for the whole run, spread included: what was minimised (or bounded)."""

    price: float
    """Predicted for the whole run."""

    homes: tuple[HomeCandidate, ...]
    """Ranked, the chosen one first."""

    excluded_homes: Mapping[str, Exclusion] = Field(default_factory=dict[str, Exclusion])

    @property
    def home(self) -> str:
        """The region whose workers run the workflow."""
        return self.root.home

    def compact(self, limit: int = 16) -> Plan:
        """The same choices with at most ``limit`` candidates and exclusions in each receipt.

        A plan travels in a header and is kept by the history; over hundreds of regions the
        whole receipt does not belong there.
        """
        return self.model_copy(
            update={
                "homes": self.homes[:limit],
                "excluded_homes": _first(self.excluded_homes, limit),
                "root": _compact(self.root, limit),
            }
        )


def _compact(agent: AgentPlan, limit: int) -> AgentPlan:
    steps = {
        name: plan.model_copy(
            update={"candidates": plan.candidates[:limit], "excluded": _first(plan.excluded, limit)}
        )
        for name, plan in agent.steps.items()
    }
    handoffs = {name: _compact(handoff, limit) for name, handoff in agent.handoffs.items()}
    return agent.model_copy(update={"steps": steps, "handoffs": handoffs})


def _first(excluded: Mapping[str, Exclusion], limit: int) -> dict[str, Exclusion]:
    return dict(list(excluded.items())[:limit])
