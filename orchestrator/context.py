"""What a step knows while it runs: its run, its place, and the way to the user who waits.

The worker sets it around every step; ``current_step`` reads it. Outside a worker there is
none, so that a step's function can be called, and tested, as the plain function it is.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from orchestrator.placement import Dispatch
from orchestrator.timing import Stopwatch


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

    ends_at: float | None = None
    """When the step's timeout ends this attempt, on the clock of ``time.monotonic``, in seconds."""

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


@contextmanager
def running(step: StepContext) -> Generator[None]:
    """Marks a block as the body of this step."""
    token = _current.set(step)
    try:
        yield
    finally:
        _current.reset(token)


def emit(text: str) -> None:
    """Sends a piece of text to the user while the step still runs (``run.stream()``).

    Pieces are a preview: the step's result, which history keeps, is what counts. An attempt
    that is repeated emits again; the caller is told the attempt. Outside a worker it does nothing.
    """
    step = _current.get()
    if step is not None and step.publish is not None:
        step.publish(step, text)
