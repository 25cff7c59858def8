"""What a run can be found by in its cell: Temporal search attributes for agent, home, residency and places.

A server takes only those that were registered in the namespace, and refuses a start with others. So a
start that is refused because of ours is sent once more without them: a run never fails for want of
what only helps to find it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import structlog
from temporalio import workflow
from temporalio.client import StartWorkflowInput, UpdateWithStartStartWorkflowInput
from temporalio.common import (
    SearchAttributeIndexedValueType,
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributes,
    TypedSearchAttributes,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import StartChildWorkflowInput

from orchestrator.placement import AgentPlan, Plan

log = structlog.get_logger(__name__)

AGENT = SearchAttributeKey.for_keyword("EdgewardAgent")
HOME = SearchAttributeKey.for_keyword("EdgewardHome")
RESIDENCY = SearchAttributeKey.for_keyword("EdgewardResidency")
PLACES = SearchAttributeKey.for_keyword_list("EdgewardPlaces")

TYPES: dict[str, SearchAttributeIndexedValueType] = {
    key.name: key.indexed_value_type for key in (AGENT, HOME, RESIDENCY, PLACES)
}
"""All of them, and what they are registered as."""

KEYWORD_CHARACTERS = 255
"""A server that keeps its runs in a SQL database indexes no longer keyword."""

PLACES_BYTES = 1500
"""Of all places together; the server takes 2 KB, quotes and commas included."""

AGAIN_AFTER = timedelta(minutes=10)
"""So long after a refusal the next start tries again: they may have been registered meanwhile."""

Attributes = list[SearchAttributePair[Any]]
Start = StartWorkflowInput | UpdateWithStartStartWorkflowInput


def attributes_of(plan: Plan, agent: str | None = None) -> Attributes:
    """What a run with this plan can be found by.

    Args:
        plan: Of the run; for a sub-agent the part that it was given.
        agent: The agent's name. Left out, the plan's; an unplanned sub-agent has its caller's plan.
    """
    return [
        SearchAttributePair(AGENT, _keyword(agent or plan.root.agent)),
        SearchAttributePair(HOME, _keyword(plan.home)),
        SearchAttributePair(RESIDENCY, _keyword(str(plan.root.residency))),
        SearchAttributePair(PLACES, _fitting(places_of(plan.root))),
    ]


def places_of(agent: AgentPlan) -> list[str]:
    """The places that were chosen for the expected steps, its sub-agents' included, by name."""
    return sorted(
        {
            step.chosen.region
            for part in agent.walk()
            for step in part.steps.values()
            if step.candidates and step.expected_calls > 0
        }
    )


def merged(
    authored: TypedSearchAttributes | SearchAttributes | None, ours: Attributes
) -> TypedSearchAttributes | SearchAttributes:
    """Both; where the author says the same attribute, the author's."""
    if not authored:
        return TypedSearchAttributes(ours)
    if isinstance(authored, TypedSearchAttributes):
        others = [pair for pair in ours if pair.key not in authored]
        return authored.updated(*others)  # pyright: ignore[reportUnknownMemberType] -- the SDK leaves pairs' types open
    # the form of the SDK's first versions
    values = {pair.key.name: pair.value for pair in ours}
    untyped = {name: [value] if isinstance(value, str) else list(value) for name, value in values.items()}
    return {**untyped, **authored}


def add_to_sub_agent(input: StartChildWorkflowInput, plan: Plan) -> None:
    """To a sub-agent that the workflow of this very thread is about to start.

    A sub-agent gets them where the run itself has them. Then its cell took them once; a command with one
    that the server does not know would fail the workflow's task, which Temporal tries again for ever. And
    a replay sees the same.

    Args:
        input: Of the sub-agent.
        plan: The part of the run's plan that it was given.
    """
    if AGENT in workflow.info().typed_search_attributes:
        input.search_attributes = merged(input.search_attributes, attributes_of(plan, input.workflow))


@dataclass
class AttributesOfStarts:
    """Gives starts their attributes, over one client, for as long as its cell takes them."""

    _refused_at: float | None = field(default=None, init=False)

    def add(self, start: Start, attributes: Attributes) -> None:
        """To a start that is about to be sent."""
        if self._refused_at is not None:
            if time.monotonic() - self._refused_at < AGAIN_AFTER.total_seconds():
                return
            self._refused_at = None
        start.search_attributes = merged(start.search_attributes, attributes)

    def refused(self, error: RPCError) -> bool:
        """Whether a start failed because of them; further ones go without, for a time."""
        if error.status is not RPCStatusCode.INVALID_ARGUMENT or not any(
            name in error.message for name in TYPES
        ):
            return False
        if self._refused_at is None:
            self._refused_at = time.monotonic()
            log.warning(
                "search_attributes.refused",
                error=error.message,
                effect="runs start and cannot be found by agent, home, residency or place",
                remedy="edgeward setup",
            )
        return True


def _keyword(text: str) -> str:
    return text[:KEYWORD_CHARACTERS]


def _fitting(names: Iterable[str]) -> list[str]:
    fitting: list[str] = []
    left_bytes = PLACES_BYTES
    for name in map(_keyword, names):
        left_bytes -= len(name.encode()) + len('"",')
        if left_bytes < 0:
            break
        fitting.append(name)
    return fitting
