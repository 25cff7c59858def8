"""What is left of a run's budget: reserved before each call, and never given twice.

Pure: the run's own calls decide, in their order, so a replay counts the same. A sub-agent gets a share, which
its run counts down by itself; so runs side by side cannot use more than they were given together.

What is reserved stays reserved: what a step really used its run does not hear, and a price is that of the
offer. What a sub-agent leaves does not come back either, because its answer does not tell.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

from orchestrator.budgets import Budget
from orchestrator.errors import BudgetExceededError


class Ledger:
    """Counts one run's budget down.

    Args:
        budget: What the run may use; its duration is not counted here.
        handoffs: How often the run is expected to start each of its sub-agents.
    """

    def __init__(self, budget: Budget, handoffs: Mapping[str, float] | None = None) -> None:
        self._budget = budget
        self._tokens = budget.tokens
        self._steps = budget.steps
        self._price = None if budget.price is None else Fraction(repr(float(budget.price)))
        self._expected = {name: math.ceil(calls) for name, calls in (handoffs or {}).items()}
        self._started: Counter[str] = Counter()

    @property
    def left(self) -> Budget:
        """What may still be used. Written as a float, the price is rounded down."""
        return Budget(
            tokens=self._tokens,
            steps=self._steps,
            price=None if self._price is None else _rounded_down(self._price),
        )

    def reserve(self, call: str, *, tokens: int = 0, price: float = 0.0) -> None:
        """Takes what one dispatch of a step may use.

        Args:
            call: What it is, for the error.
            tokens: That its models may generate at most.
            price: Of the offers in its place.

        Raises:
            BudgetExceededError: There is not enough left; nothing is taken. Names what ran out.
        """
        exact = Fraction(repr(float(price)))
        short: list[str] = []
        if self._steps is not None and self._steps < 1:
            short.append(f"all {self._budget.steps} steps are used")
        if self._tokens is not None and self._tokens < tokens:
            short.append(f"it may generate {tokens} tokens, {self._tokens} of {self._budget.tokens} are left")
        if self._price is not None and self._price < exact:
            left = _rounded_down(self._price)
            short.append(f"it costs {price:g}, {left:g} of {self._budget.price:g} are left")
        if short:
            raise BudgetExceededError(
                f"{call} is over the budget of its run: {'; '.join(short)}; give the run a larger budget"
            )
        if self._steps is not None:
            self._steps -= 1
        if self._tokens is not None:
            self._tokens -= tokens
        if self._price is not None:
            self._price -= exact

    def release(self, *, tokens: int = 0, price: float = 0.0) -> None:
        """Returns what was reserved for a dispatch that surely did not run."""
        if self._steps is not None:
            self._steps += 1
        if self._tokens is not None:
            self._tokens += tokens
        if self._price is not None:
            self._price += Fraction(repr(float(price)))

    def share(self, agent: str, declared: Budget | None = None) -> Budget:
        """Takes what a sub-agent that is about to start may use.

        Of each part it gets what it declares, or what is left if that is less. Of a part that it does not
        declare it gets an equal share of what is left, among the run itself and the sub-agents that it is
        still expected to start.

        Args:
            agent: The sub-agent's name.
            declared: Its own budget.

        Raises:
            BudgetExceededError: No step is left for it; nothing is taken.
        """
        if self._steps == 0:
            raise BudgetExceededError(
                f"sub-agent {agent} is over the budget of its run: all {self._budget.steps} steps are used; "
                "give the run a larger budget"
            )
        declared = declared or Budget()
        sharing = 1 + self._still_expected(agent)
        share = Budget(
            tokens=_part(self._tokens, declared.tokens, sharing),
            steps=_part(self._steps, declared.steps, sharing),
            price=self._price_share(declared.price, sharing),
        )
        self._started[agent] += 1
        if self._tokens is not None and share.tokens is not None:
            self._tokens -= share.tokens
        if self._steps is not None and share.steps is not None:
            self._steps -= share.steps
        if self._price is not None and share.price is not None:
            self._price -= Fraction(repr(share.price))
        return share

    def give_back(self, agent: str, share: Budget) -> None:
        """Returns the share of a sub-agent that surely did not start."""
        self._started[agent] -= 1
        if self._tokens is not None and share.tokens is not None:
            self._tokens += share.tokens
        if self._steps is not None and share.steps is not None:
            self._steps += share.steps
        if self._price is not None and share.price is not None:
            self._price += Fraction(repr(share.price))

    def _still_expected(self, agent: str) -> int:
        """Sub-agents that share what is left, this one included."""
        others = sum(
            max(0, expected - self._started[name])
            for name, expected in self._expected.items()
            if name != agent
        )
        return others + max(1, self._expected.get(agent, 1) - self._started[agent])

    def _price_share(self, declared: float | None, sharing: int) -> float | None:
        if self._price is None:
            return declared
        if declared is None:
            return _rounded_down(self._price / sharing)
        return min(declared, _rounded_down(self._price))


def _part(left: int | None, declared: int | None, sharing: int) -> int | None:
    if left is None:
        return declared
    # nobody gets less than one of what is there
    return min(left, max(1, left // sharing) if declared is None else declared)


def _rounded_down(price: Fraction) -> float:
    """As a float that, written out, is not more."""
    rounded = float(price)
    while Fraction(repr(rounded)) > price:
        rounded = math.nextafter(rounded, 0.0)
    return rounded
