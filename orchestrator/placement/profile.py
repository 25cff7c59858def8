"""What the planner knows of an agent: which steps, how often, what they require and take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from orchestrator.budgets import Budget
from orchestrator.requirements import Requirements

Dispatch = Literal["inline", "queue"]
"""How a step is carried out: as a local activity in the home worker, or on the place's task queue."""

DispatchChoice = Literal["auto", "inline", "queue"]
"""What an author may say about it."""


OnCellLoss = Literal["wait", "restart"]
"""What becomes of a run that a cell had accepted which no longer answers."""

WithoutPlace = Literal["wait", "fail"]
"""What a run does while no place of a step can do it: wait for one to come back, or fail."""


@dataclass(frozen=True)
class RunTime:
    """How long a step's body takes in a place, without dispatch and waiting."""

    p50_ms: float
    p95_ms: float
    samples: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.p50_ms <= self.p95_ms:
            raise ValueError(f"a run time has 0 < p50 <= p95, not {self.p50_ms} and {self.p95_ms} ms")

    def updated_with(self, seen: RunTime, *, prior_weight: float = 4.0) -> RunTime:
        """This one as a prior, pulled towards what was seen the more samples there are.

        Args:
            seen: Quantiles of ``seen.samples`` observations.
            prior_weight: How many observations the prior is worth.
        """
        weight = seen.samples / (seen.samples + prior_weight)
        p50_ms = self.p50_ms + weight * (seen.p50_ms - self.p50_ms)
        p95_ms = self.p95_ms + weight * (seen.p95_ms - self.p95_ms)
        return RunTime(p50_ms, max(p50_ms, p95_ms), seen.samples)


PRIORS: dict[str, RunTime] = {
    "model": RunTime(1000, 4000),
    "vector": RunTime(25, 80),
    "tool": RunTime(300, 1500),
    "code": RunTime(5, 25),
}
"""Run times of steps that nobody has seen yet, by kind: short grounded answers of a small model,
a lookup with its embedding, the median tool call of TraceLab's 432,510 (0.3 s; its tail is of
long shell commands and left out), plain code."""

DEFAULT_PRIOR = RunTime(100, 500)
"""For kinds of an author's own."""


@dataclass(frozen=True)
class StepProfile:
    """One step of an agent, as the planner sees it."""

    name: str
    """The activity's name, or a pattern (``*model_request*``) that stands for several."""

    kind: str
    requirements: Requirements = field(default_factory=Requirements)
    expected_calls: float = 1.0
    """How often a run calls it. Zero: it may be called, and does not weigh."""

    prior: RunTime | None = None
    repeatable: bool = True
    """Whether it may run again after a crash, without harm."""

    cancellable: bool = True
    """Whether a cancellation must reach it while it runs."""

    dispatch: DispatchChoice = "auto"
    tokens: int | None = None
    """What its models may generate at most in one call, as its author declares."""

    payload_bytes: int = 4096
    """Input and result together."""

    def __post_init__(self) -> None:
        if self.expected_calls < 0:
            raise ValueError(f"step {self.name}: expected calls are negative ({self.expected_calls})")


@dataclass(frozen=True)
class Handoff:
    """A sub-agent that an agent starts: a run of its own in the same cell, with a home of its own."""

    agent: AgentProfile
    expected_calls: float = 1.0


@dataclass(frozen=True)
class AgentProfile:
    """An agent and the tree of its sub-agents."""

    name: str
    steps: tuple[StepProfile, ...] = ()
    handoffs: tuple[Handoff, ...] = ()
    requirements: Requirements = field(default_factory=Requirements)
    without_place: WithoutPlace = "wait"
    budget: Budget | None = None
