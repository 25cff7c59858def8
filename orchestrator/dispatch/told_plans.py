"""What a start is told of its plan: written once for all runs that have the same plan.

To write it takes longer than to find the plan (bench ``overhead``).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from orchestrator.dispatch.headers import PLANS, write_plan
from orchestrator.dispatch.visibility.run_texts import details_of, summary_of
from orchestrator.dispatch.visibility.search_attributes import Attributes, attributes_of
from orchestrator.placement import Plan


@dataclass(frozen=True)
class ToldPlan:
    """A plan in the forms in which it travels."""

    plan: Plan
    header: bytes
    summary: str
    details: str
    attributes: Attributes


class ToldPlans:
    """Those of the latest plans of one client."""

    def __init__(self) -> None:
        self._told: OrderedDict[int, ToldPlan] = OrderedDict()
        """By the plan's identity, which no other has while the plan is kept: to compare plans is slow."""

    def of(self, plan: Plan) -> ToldPlan:
        """What is told of a plan."""
        told = self._told.get(id(plan))
        if told is None:
            told = ToldPlan(plan, write_plan(plan), summary_of(plan), details_of(plan), attributes_of(plan))
            self._told[id(plan)] = told
            if len(self._told) > PLANS:
                self._told.popitem(last=False)
        return told
