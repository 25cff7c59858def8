"""The port to vector stores: what a step may ask of a collection, whatever keeps it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from orchestrator.errors import ConfigurationError

MAX_LIMIT = 1000
"""A search for more neighbours than this is no search."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Value):
    """What a collection keeps: a vector under an id, with what it stands for."""

    id: str = Field(min_length=1)
    vector: tuple[float, ...] = Field(min_length=1)
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    """What comes back with a hit: a text, its title, its source."""

    @field_validator("vector")
    @classmethod
    def _has_a_direction(cls, vector: tuple[float, ...]) -> tuple[float, ...]:
        checked_vector(vector)
        return vector


class Hit(_Value):
    """A point that a search found."""

    id: str
    score: float
    """Cosine similarity to what was asked: 1 is the same direction, 0 has nothing in common."""

    payload: dict[str, JsonValue] = Field(default_factory=dict)


class Collection(Protocol):
    """A collection of vectors that a region offers. Made by ``Backends.collection``.

    Similarity is cosine. Every method raises a ``BackendError`` when the store fails, and a
    ``BackendRefusedError`` when the collection does not exist or its vectors have another length.
    """

    async def search(
        self, vector: Sequence[float], *, limit: int = 5, where: Mapping[str, str] | None = None
    ) -> list[Hit]:
        """The points nearest to a vector, the nearest first.

        Args:
            vector: What to look near.
            limit: How many at most.
            where: Only points whose payload has these values; in a list, one of them is enough.
        """
        ...

    async def upsert(self, points: Sequence[Point], *, create: bool = False) -> None:
        """Puts points in; one with the id of another replaces it.

        Args:
            points: What to put in.
            create: Whether to make the collection, for vectors of this length, when there is none.
        """
        ...

    async def get(self, ids: Sequence[str]) -> list[Point]:
        """The points of these ids, in their order; ids that are not there are left out.

        Vectors come back normalised where the store keeps them so.
        """
        ...

    async def delete(self, ids: Sequence[str]) -> None:
        """Takes points out; ids that are not there do no harm."""
        ...

    async def count(self) -> int:
        """How many points there are."""
        ...


def checked_vector(vector: Sequence[float]) -> None:
    """Refuses what has no cosine.

    Raises:
        ValueError: The vector is all zeros or holds what is no finite number.
    """
    if not all(math.isfinite(value) for value in vector):
        raise ValueError("holds what is no finite number")
    if not any(vector):
        raise ValueError("is all zeros and so has no direction; leave the point out")


def checked_search(vector: Sequence[float], limit: int, where: Mapping[str, str] | None) -> None:
    """Refuses a search that no store can do.

    Raises:
        ConfigurationError: It names the argument and the remedy.
    """
    try:
        checked_vector(vector)
    except ValueError as error:
        raise ConfigurationError(f"search(vector=...): {error}") from None
    if not 1 <= limit <= MAX_LIMIT:
        raise ConfigurationError(f"search(limit={limit}): ask for 1 to {MAX_LIMIT}")
    for key in where or {}:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", key):
            raise ConfigurationError(
                f"search(where=...): {key!r} is no key of a payload that can be searched by; "
                "use letters, digits, _ and -"
            )


def checked_points(points: Sequence[Point]) -> int:
    """The length that all of these vectors have.

    Raises:
        ConfigurationError: They have several.
    """
    sizes = {len(point.vector) for point in points}
    if len(sizes) > 1:
        raise ConfigurationError(
            f"upsert(): vectors of several lengths ({', '.join(map(str, sorted(sizes)))}); "
            "a collection keeps those of one model"
        )
    return sizes.pop()
