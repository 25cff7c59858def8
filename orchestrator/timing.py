"""What a worker measures of a step, and how it travels: in the metadata of the step's result.

History tells on the server's clock when a step was scheduled, handed out and reported. How long its
body took, and what it waited for, only the worker knows; it says so beside the result, so that the
parts of a step's wall time can be read from history alone, with no event added.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, computed_field
from pydantic_core import to_json
from temporalio.api.common.v1 import Payload

TIMING = "edgeward-timing"
"""The key in a payload's metadata; the value is JSON."""

MAX_CALLS = 32
"""Of one step that are told: about 5 KiB beside its result."""

Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""No damaged word of a worker makes a bar that is negative or endless."""


class CallTiming(BaseModel):
    """One call of a step to a backend: a model, a collection, a tool."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    """``model``, ``embedding``, ``collection`` or ``tool``."""

    name: str
    """Of the offer."""

    operation: str | None = None
    """What was asked of it, such as ``chat`` or ``search``."""

    began_ms: float | None = None
    """Since the step's body began."""

    took_ms: Milliseconds
    connect_ms: Milliseconds | None = None
    """Opening the connection; None where a kept one was used, or where nothing tells."""

    first_token_ms: Milliseconds | None = None
    """From the request to the first piece of a streamed answer, the connection included."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    retries: int = 0
    """How often the request was sent again inside the call, such as on a connection that had died."""

    error: str | None = None
    """The class of the error that it ended with."""

    @computed_field
    @property
    def decode_ms(self) -> float | None:
        """From the first piece of a streamed answer to its end; includes what its reader took."""
        if self.first_token_ms is None or self.error is not None:
            return None
        return round(self.took_ms - self.first_token_ms, 3)

    @computed_field
    @property
    def tokens_per_second(self) -> float | None:
        """How fast the tokens after the first came; None where the answer was not streamed."""
        if not self.decode_ms or self.output_tokens is None or self.output_tokens < 2:
            return None
        return round((self.output_tokens - 1) / self.decode_ms * 1000, 3)


class StepTiming(BaseModel):
    """One attempt of a step, as the worker saw it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    region: str
    """Where the worker runs: the place, if all is well."""

    started_at: Annotated[float, Field(allow_inf_nan=False)]
    """When the body began, in seconds since 1970 on the worker's clock."""

    execution_ms: Milliseconds
    attempt_scheduled_at: AwareDatetime | None = None
    """When the server scheduled this attempt, on its clock. Only of a repeated one: history tells
    the first."""

    calls: tuple[CallTiming, ...] = ()
    """In the order in which they ended; of more than ``MAX_CALLS`` those that took longest."""

    calls_left_out: int = 0
    """How many calls there were beside them."""


class Stopwatch:
    """Measures one attempt while it runs; backends note their calls on it.

    Attributes:
        started_at: Seconds since 1970 on this machine's clock.
    """

    __slots__ = ("_began", "_calls", "_calls_left_out", "started_at")

    def __init__(self) -> None:
        self.started_at = time.time()
        self._began = time.monotonic()
        self._calls: list[CallTiming] = []
        self._calls_left_out = 0

    def note(self, call: CallTiming) -> None:
        """Adds a call that has ended. May be used from any thread."""
        with _noting:
            self._calls.append(call)
            if len(self._calls) > MAX_CALLS:
                self._calls.remove(min(self._calls, key=lambda kept: kept.took_ms))
                self._calls_left_out += 1

    def since_start_ms(self, at: float) -> float:
        """How long after the start a moment was.

        Args:
            at: On the clock of ``time.monotonic``, in seconds.
        """
        return (at - self._began) * 1000

    @property
    def execution_ms(self) -> float:
        """Since the start."""
        return (time.monotonic() - self._began) * 1000

    @property
    def calls(self) -> tuple[CallTiming, ...]:
        """Those that were noted and kept."""
        return tuple(self._calls)

    def write(
        self,
        payload: Payload,
        region: str,
        execution_ms: float,
        attempt_scheduled_at: datetime | None = None,
    ) -> None:
        """Says beside a result how it came about, as ``StepTiming`` reads it.

        Args:
            payload: The result.
            region: Where the worker runs.
            execution_ms: How long the body took.
            attempt_scheduled_at: Of a repeated attempt.
        """
        # not by a StepTiming: to make and to write one takes as long as all else that a short step is told
        told: dict[str, Any] = {
            "region": region,
            "started_at": self.started_at,
            "execution_ms": execution_ms,
        }
        if attempt_scheduled_at is not None:
            told["attempt_scheduled_at"] = attempt_scheduled_at
        if self._calls:
            with _noting:
                told["calls"] = [_written(call) for call in self._calls]
                told["calls_left_out"] = self._calls_left_out
        payload.metadata[TIMING] = to_json(told)


_noting = threading.Lock()


def _written(call: CallTiming) -> dict[str, Any]:
    return call.model_dump(exclude_none=True, exclude_defaults=True, exclude_computed_fields=True)


def timing_of(payload: Payload) -> StepTiming | None:
    """What a worker said beside a result; None if it said nothing that can be read."""
    data: Any = payload.metadata.get(TIMING) or _kept_timing(payload)
    if data is None:
        return None
    try:
        return StepTiming.model_validate_json(data)
    except ValidationError:
        return None


class _Claim(BaseModel):
    """What stands in a history for a payload that is kept in a store, as far as it is of interest here."""

    claim: dict[str, str] = Field(alias="claimData")


def _kept_timing(payload: Payload) -> str | None:
    if not payload.external_payloads:
        return None
    try:
        return _Claim.model_validate_json(payload.data).claim.get(TIMING)
    except ValidationError:
        return None
