"""What a step knows while it runs: its run, its place, and the way to the user who waits.

The worker sets it around every step; ``current_step`` reads it. Outside a worker there is
none, so that a step's function can be called, and tested, as the plain function it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from orchestrator.bound import Bound
from orchestrator.errors import BudgetExceededError
from orchestrator.placement import Dispatch
from orchestrator.timing import Stopwatch


class TokenAllowance:
    """What the models of one attempt of a step may generate: taken before each call.

    Args:
        tokens: In all of its calls.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.left = tokens

    def take(self, step: str, wanted: int | None) -> int:
        """Takes for one call what it wants, or what is left if that is less.

        Args:
            step: Its name, for the error.
            wanted: ``max_tokens`` of the call; None for as many as there may be.

        Raises:
            BudgetExceededError: None is left.
        """
        if self.left < 1:
            raise BudgetExceededError(
                f"step {step} lets its models generate {self.tokens} tokens and none of them are left; "
                "declare what it needs: @step(tokens=...)"
            )
        taken = self.left if wanted is None else min(self.left, wanted)
        self.left -= taken
        return taken

    def settle(self, taken: int, used: int) -> None:
        """Puts back what a call took and, as its model says, did not generate."""
        self.left += min(taken, max(0, taken - used))


@dataclass(frozen=True)
class StepContext:
    """The step that is being run."""

    workflow_id: str
    run_id: str
    step: str
    activity_id: str
    sequence: int
    """Its number in the run, from 1, in the order in which the agent's code called its steps.
    0 for an activity that was scheduled without a plan."""

    attempt: int
    region: str
    dispatch: Dispatch
    publish: Callable[[StepContext, str], None] | None = None
    """Hands a piece of this step's text to whoever streams the run; None where nobody can listen."""

    stopwatch: Stopwatch = field(default_factory=Stopwatch, compare=False, repr=False)
    """Measures this attempt."""

    key: str | None = None
    """Its idempotency key, where its run may be restarted in another cell."""

    tokens: TokenAllowance | None = None
    """What the models that it calls may still generate; None for no bound."""

    ends_at: float | None = None
    """When a timeout of the step or the deadline of its run ends this attempt, on the clock of
    ``time.monotonic``, in seconds."""

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step, also after a crash: run id and sequence.

        Of a run that may be restarted in another cell (``@agent(on_cell_loss="restart")``): the run's own
        key, the step and a digest of its arguments, so that it is the same in the restarted run.
        """
        return self.key or f"{self.run_id}/{self.sequence or self.activity_id}"


_current: ContextVar[StepContext | None] = ContextVar("edgeward_step", default=None)


def current_step() -> StepContext | None:
    """The step that is being run; None outside a worker."""
    return _current.get()


def running(step: StepContext) -> Bound[StepContext]:
    """Marks a block as the body of this step."""
    return Bound(_current, step)


def emit(text: str) -> None:
    """Sends a piece of text to the user while the step still runs (``run.stream()``).

    Pieces are a preview: the step's result, which history keeps, is what counts. An attempt
    that is repeated emits again; the caller is told the attempt. Outside a worker it does nothing.
    """
    step = _current.get()
    if step is not None and step.publish is not None:
        step.publish(step, text)
