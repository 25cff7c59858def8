"""What a step or a run requires: needs, residency, objective, and the one rule that merges them.

Requirements are declared at several levels: the start of a run, the agent, a block of the
agent (``placing``) and the step. One rule merges them: hard parts (needs, residency) add up,
so that a nearer level can only narrow; of soft parts (objective) the nearest wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, TypeAlias

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from orchestrator.errors import ConfigurationError
from orchestrator.topology import OfferKey, OfferKind, Region

ResidencyLike: TypeAlias = "str | Iterable[str] | Residency | None"
"""How people write a residency: ``"EU"``, ``["EU", "CH"]``, a ``Residency``, or None for anywhere."""


@dataclass(frozen=True)
class Needs:
    """What a step must find in its place: the names of a model, a collection, a tool.

    Hard: a region that does not offer all of them is no candidate.
    """

    model: str | None = None
    collection: str | None = None
    tool: str | None = None
    embedding: str | None = None
    """A second model beside ``model``, such as the one that embeds a question before a lookup."""

    def __post_init__(self) -> None:
        for name in (self.model, self.collection, self.tool, self.embedding):
            if name is not None and not name.strip():
                raise ConfigurationError("Needs: a name is empty; leave the field out if nothing is needed")

    @property
    def offers(self) -> frozenset[OfferKey]:
        """The offers that a place must have."""
        named: tuple[tuple[OfferKind, str | None], ...] = (
            ("model", self.model),
            ("model", self.embedding),
            ("collection", self.collection),
            ("tool", self.tool),
        )
        return frozenset(OfferKey(kind=kind, name=name) for kind, name in named if name is not None)


@dataclass(frozen=True)
class Residency:
    """Where a run's data may be: a hard rule that can be narrowed and never widened.

    A conjunction of alternatives: each level that states a residency adds one set, and a
    region is permitted when it lies in a jurisdiction of *every* set.
    """

    clauses: frozenset[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if not all(self.clauses):
            raise ConfigurationError(
                "a residency names no jurisdiction; give one ('EU') or leave it out for anywhere"
            )

    @classmethod
    def of(cls, value: ResidencyLike) -> Residency:
        """Reads a residency as people write it.

        Raises:
            ConfigurationError: It is empty: nowhere would be allowed.
        """
        if value is None:
            return cls()
        if isinstance(value, Residency):
            return value
        names = value.split(",") if isinstance(value, str) else value
        return cls(frozenset({frozenset(name.strip().upper() for name in names if name.strip())}))

    def narrowed(self, other: Residency) -> Residency:
        """Both of them."""
        return Residency(self.clauses | other.clauses)

    def permits(self, region: Region) -> bool:
        """Whether data may enter this region."""
        return self.covers(region.jurisdictions)

    def covers(self, jurisdictions: frozenset[str]) -> bool:
        """Whether data may enter a place that lies in these jurisdictions."""
        return all(jurisdictions & clause for clause in self.clauses)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As JSON, a list of its clauses, each a list of names: nothing in it can be left out unseen."""
        clauses = handler(frozenset[Annotated[frozenset[str], Field(min_length=1)]])
        from_clauses = core_schema.no_info_after_validator_function(cls, clauses)
        return core_schema.json_or_python_schema(
            json_schema=from_clauses,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_clauses]),
            serialization=core_schema.plain_serializer_function_ser_schema(_as_lists),
        )

    def __str__(self) -> str:
        """``EU``, ``CH or EU``, ``(CH or EU) and DE``; ``anywhere`` where nothing is ruled."""
        if not self.clauses:
            return "anywhere"
        clauses = sorted(" or ".join(sorted(clause)) for clause in self.clauses)
        if len(clauses) == 1:
            return clauses[0]
        return " and ".join(f"({clause})" if " or " in clause else clause for clause in clauses)


@lru_cache(maxsize=1024)
def _as_lists(residency: Residency) -> list[list[str]]:
    return sorted(sorted(clause) for clause in residency.clauses)


@dataclass(frozen=True)
class Objective:
    """What to optimise among the places that the hard rules leave.

    The default is latency. With ``price_under`` it is price: the cheapest plan whose predicted
    latency stays under the bound.
    """

    price_under: timedelta | None = None

    def __post_init__(self) -> None:
        if self.price_under is not None and self.price_under <= timedelta(0):
            raise ConfigurationError("Objective: price_under is not positive; give a timedelta above zero")

    @property
    def latency_bound_ms(self) -> float | None:
        """The bound in milliseconds where price is the objective, else None."""
        return None if self.price_under is None else self.price_under / timedelta(milliseconds=1)


@dataclass(frozen=True)
class Requirements:
    """The requirements of one level, or of several levels merged."""

    offers: frozenset[OfferKey] = field(default_factory=frozenset[OfferKey])
    residency: Residency = field(default_factory=Residency)
    objective: Objective | None = None

    def merged(self, nearer: Requirements) -> Requirements:
        """These, narrowed by those of a level nearer to the step."""
        return Requirements(
            offers=self.offers | nearer.offers,
            residency=self.residency.narrowed(nearer.residency),
            objective=nearer.objective or self.objective,
        )


def requirements(
    *, needs: Needs | None = None, residency: ResidencyLike = None, objective: Objective | None = None
) -> Requirements:
    """Requirements as people write them.

    Raises:
        ConfigurationError: A part of them is empty.
    """
    return Requirements(
        offers=needs.offers if needs else frozenset(),
        residency=Residency.of(residency),
        objective=objective,
    )
