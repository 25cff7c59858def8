"""What a region's worker says of itself at ``GET /status`` of its control endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.placement import KnownOr, RunTime

Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Value(BaseModel):
    # a worker of a newer version may say more than this one understands; that is not an error
    model_config = ConfigDict(frozen=True, extra="ignore")


class QueueStatus(_Value):
    """The slots of one kind of step, over all cells that the worker serves.

    A worker that gives one slot supplier to its pollers in several cells counts its slots once.
    """

    slots: int = Field(ge=0)
    busy: int = Field(default=0, ge=0)


class Quantiles(_Value):
    """How long bodies of steps took: quantiles of the latest calls."""

    p50_ms: Milliseconds
    p95_ms: Milliseconds
    samples: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.p95_ms < self.p50_ms:
            raise ValueError(f"p95 ({self.p95_ms} ms) is below p50 ({self.p50_ms} ms)")
        return self


class StepTime(Quantiles):
    """How long one step's body took there."""

    step: str

    @classmethod
    def of(cls, step: str, run_time: RunTime) -> Self:
        """The same quantiles, as they travel."""
        return cls(step=step, p50_ms=run_time.p50_ms, p95_ms=run_time.p95_ms, samples=run_time.samples)

    @property
    def run_time(self) -> RunTime:
        """The same quantiles, as placement reads them."""
        return RunTime(self.p50_ms, self.p95_ms, self.samples)


class WorkerStatus(_Value):
    """A region's worker, as it describes itself."""

    region: str
    state: Annotated[Literal["up", "draining"], KnownOr("draining")] = "up"
    """``draining``: it finishes what it has and takes nothing new."""

    queues: Mapping[str, QueueStatus] = Field(default_factory=dict[str, QueueStatus])
    """By kind of step."""

    rtt_ms: Mapping[str, Milliseconds] = Field(default_factory=dict[str, float])
    """From the worker to the servers of its cells, by the region in which the server stands."""

    run_times: tuple[StepTime, ...] = ()
    """Of the steps that it ran."""

    all_steps: Quantiles | None = None
    """Of all of them together; None before the first, and from a worker that does not say."""

    away: Mapping[str, str] = Field(default_factory=dict[str, str])
    """Regions to which its runs send no steps while others can do them, and why."""
