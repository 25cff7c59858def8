"""What a run may use at most: tokens, steps, time, price.

A budget is hard. What a call may use is reserved before it is made, and a call for which there is not
enough left is not made. Budgets are declared on the agent and at the start of a run; of two, each part is
the smaller one, so that a run can only be given less than its agent declares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from orchestrator.errors import ConfigurationError

PartT = TypeVar("PartT", int, float, timedelta)


@dataclass(frozen=True)
class Budget:
    """What a run may use at most; a part that is left out is not bounded.

    Raises:
        ConfigurationError: A part is negative or no number, or the duration is not positive.
    """

    tokens: int | None = None
    """That models generate: each step reserves what it declares (``@step(tokens=...)``)."""

    steps: int | None = None
    """Dispatches of steps: retries and further places count again."""

    duration: timedelta | None = None
    """From the start of the run; the same as its deadline."""

    price: float | None = None
    """Of the offers that its steps use, in the unit of the topology's prices."""

    def __post_init__(self) -> None:
        for name, value in (("tokens", self.tokens), ("steps", self.steps), ("price", self.price)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"Budget: {name} is {value}; give zero or more, or leave it out")
        if self.duration is not None and self.duration <= timedelta():
            raise ConfigurationError(f"Budget: duration is {self.duration}; give more than zero")

    def merged(self, narrower: Budget | None) -> Budget:
        """Both of them: the smaller one of each part."""
        if narrower is None:
            return self
        return Budget(
            tokens=_smaller(self.tokens, narrower.tokens),
            steps=_smaller(self.steps, narrower.steps),
            duration=_smaller(self.duration, narrower.duration),
            price=_smaller(self.price, narrower.price),
        )

    @property
    def counts(self) -> bool:
        """Whether there is a part that calls use up, and not only time."""
        return self.tokens is not None or self.steps is not None or self.price is not None

    @property
    def is_used_outside(self) -> bool:
        """Whether what a step does outside of the run's history uses it up: tokens or money."""
        return self.tokens is not None or self.price is not None


def _smaller(one: PartT | None, other: PartT | None) -> PartT | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
