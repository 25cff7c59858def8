"""How a run is started: what ``EdgeClient.start`` and ``submit`` take by name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Required, TypedDict

from temporalio.common import Priority

from orchestrator.agents import with_deadline
from orchestrator.budgets import Budget
from orchestrator.errors import ConfigurationError
from orchestrator.geography import Origin
from orchestrator.requirements import Objective, ResidencyLike

LONGEST_TENANT_BYTES = 64
"""Of Temporal's fairness keys."""

LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0
"""Of Temporal's fairness weights; it cuts others off without a word."""


class StartOptions(TypedDict, total=False):
    """Keyword arguments of ``EdgeClient.start``."""

    origin: Required[str | Origin]
    """Where the user is: a region, a country code, ``lat,lon`` or a city."""

    residency: ResidencyLike
    """Narrows the agent's own, for this run."""

    objective: Objective | None
    """What to optimise in this run."""

    id: str | None
    """The workflow id; made of the agent's name and a random part if left out."""

    deadline: timedelta | None
    """How long the run may take from its start; the agent's own holds as well."""

    budget: Budget | None
    """What the run may use; the agent's own holds as well, so it can only be narrower."""

    tenant: str | None
    """On whose behalf it runs. Where steps wait in a queue, tenants take turns (Temporal's fairness
    keys): sub-agents and steps belong to the same one."""

    weight: float | None
    """The tenant's share of the turns, beside others' of 1."""


class SubmitOptions(StartOptions, total=False):
    """Keyword arguments of ``EdgeClient.submit`` and ``execute``."""

    early: bool
    """Take the answer from the home's worker, if the client is beside it, before the cell has written it."""


@dataclass(frozen=True)
class RunOptions:
    """The same as one value, with their defaults.

    Raises:
        ConfigurationError: The tenant's name or weight cannot be used, or the deadline is not positive.
    """

    origin: str | Origin
    residency: ResidencyLike = None
    objective: Objective | None = None
    id: str | None = None
    deadline: timedelta | None = None
    budget: Budget | None = None
    tenant: str | None = None
    weight: float | None = None
    early: bool = False

    def __post_init__(self) -> None:
        if self.tenant is not None and not 0 < len(self.tenant.encode()) <= LONGEST_TENANT_BYTES:
            raise ConfigurationError(
                f"a tenant's name has 1 to {LONGEST_TENANT_BYTES} bytes, not {len(self.tenant.encode())}; "
                "give a shorter one, such as its id"
            )
        if self.weight is None:
            return
        if self.tenant is None:
            raise ConfigurationError("a weight is a tenant's; give tenant= as well")
        if not LEAST_WEIGHT <= self.weight <= MOST_WEIGHT:
            raise ConfigurationError(
                f"a weight is {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}, not {self.weight}; 1 is an ordinary share"
            )

    @property
    def limits(self) -> Budget | None:
        """Budget and deadline of this very run; None where it has neither."""
        return with_deadline(self.budget, self.deadline)

    @property
    def priority(self) -> Priority:
        """For Temporal: the tenant as fairness key."""
        if self.tenant is None:
            return Priority.default
        return Priority(fairness_key=self.tenant, fairness_weight=self.weight)
