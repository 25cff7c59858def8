"""What travels in Temporal headers: the plan and the limits of a run, an assignment with each step.

Headers are JSON, whatever data converter the application uses, so that every worker and every reader
of a history understands them. They hold regions and costs, never a run's data. A plan repeats itself
a lot: compressed it has a thirtieth of its size, which counts on the way to a far cell. An assignment
is short, and stays so: a step's receipt is in the run's plan, and a second one with each step made a
queued step dearer by a twentieth (bench ``overhead``).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Annotated, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError
from temporalio.api.common.v1 import Payload

from orchestrator.budgets import Budget
from orchestrator.errors import ConfigurationError
from orchestrator.placement import Dispatch, KnownOr, Plan
from orchestrator.requirements import Residency

PLAN_HEADER = "edgeward-plan"
ASSIGNMENT_HEADER = "edgeward-assignment"
LIMITS_HEADER = "edgeward-limits"

COMPRESSED = b"json/zlib"
"""In a payload's metadata: UTF-8 JSON, compressed as in RFC 1950."""

PLAIN = b"json/plain"
"""In a payload's metadata: UTF-8 JSON."""

PLANS = 256
"""So many plans that were read, and that were written, are kept for further runs with the same one."""

ASSIGNMENTS = 1024
"""So many assignments that were read are kept, for whoever reads the same header again."""

LARGEST_BYTES = 16 * 1024 * 1024
"""A header that would grow beyond this is not one of ours."""

ValueT = TypeVar("ValueT")


class EarlierPlace(BaseModel):
    """A place that should have done a step, and did not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    place: str
    reason: str
    """The region's own, not the step's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a step is told: which it is, and where it goes. Why is in the run's plan.

    No model of Pydantic: made for every step, one took four times as long (bench ``overhead``).
    """

    sequence: int
    """Number of the step in its run, from 1, in the order of the agent's calls."""

    key: str | None = None
    """Its idempotency key, where its run may be restarted in another cell; else of Temporal's run id."""

    root_workflow_id: str
    """The run that the user started: pieces of text are published under it."""

    place: str | None = None
    """None where the author chose the task queue."""

    dispatch: Annotated[Dispatch, KnownOr("queue")] = "queue"
    predicted_ms: float | None = None
    residency: Residency
    """Checked once more by the worker that receives the step."""

    elsewhere: bool = False
    """Whether it can go to another place: then one that cannot do it does not try for long."""

    heartbeat: bool = False
    """Whether the worker tells the server that it lives, so that a dead one is noticed."""

    hedge: bool = False
    """Whether it runs in another place at the same time, which took unusually long."""

    earlier: tuple[EarlierPlace, ...] = ()
    """The places that it was to be done in before."""

    passed_over: tuple[EarlierPlace, ...] = ()
    """The places that the plan prefers, and why it does not go there."""

    retries: int = 0
    """How often its run tried it again in this place. Without a budget the server does that, unseen."""

    tokens: int | None = None
    """What its models may generate at most; None for no bound."""

    leave_after: timedelta | None = None
    """After how long an inline step takes unusually long, and may leave its home; None where it stays."""

    leave_to: tuple[str, ...] = ()
    """The regions that it may go to then."""


class RunLimits(BaseModel):
    """What this very run may use, besides what its agent declares. Not in the plan, which runs share."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    budget: Budget | None = None
    """Its duration counts from the start of the run."""

    ends_at: AwareDatetime | None = None
    """When it has to be over, on the server's clock: of a run that goes on, or was started by another one."""


def with_plan(headers: Mapping[str, Payload], plan: Plan) -> dict[str, Payload]:
    """These headers and the plan of a run."""
    return with_written_plan(headers, write_plan(plan))


def write_plan(plan: Plan) -> bytes:
    """A plan as it travels."""
    return zlib.compress(plan.model_dump_json(exclude_none=True).encode())


def with_written_plan(headers: Mapping[str, Payload], plan: bytes) -> dict[str, Payload]:
    """The same, of a plan that was written before."""
    return {**headers, PLAN_HEADER: Payload(metadata={"encoding": COMPRESSED}, data=plan)}


def plan_of(headers: Mapping[str, Payload]) -> Plan | None:
    """The plan in the headers of a run; None if it was started without one.

    Runs with an equal header share one plan: over many regions it takes more memory than the rest
    of a run.
    """
    payload = headers.get(PLAN_HEADER)
    return None if payload is None else _plan(payload.SerializeToString(deterministic=True))


@lru_cache(maxsize=PLANS)
def _plan(payload: bytes) -> Plan:
    return _value(Payload.FromString(payload), PLAN_HEADER, Plan.model_validate_json)


def with_limits(headers: Mapping[str, Payload], limits: RunLimits) -> dict[str, Payload]:
    """These headers and the limits of a run."""
    return {**headers, LIMITS_HEADER: _plain(limits.model_dump_json(exclude_defaults=True).encode())}


def limits_of(headers: Mapping[str, Payload]) -> RunLimits | None:
    """The limits in the headers of a run; None if it was started without.

    Raises:
        ConfigurationError: The header cannot be read.
    """
    payload = headers.get(LIMITS_HEADER)
    return None if payload is None else _value(payload, LIMITS_HEADER, RunLimits.model_validate_json)


def with_assignment(headers: Mapping[str, Payload], assignment: Assignment) -> dict[str, Payload]:
    """These headers and the assignment of a step."""
    # read for each step: what is as usual is left out
    text = _assignments.dump_json(assignment, exclude_defaults=True)
    return {**headers, ASSIGNMENT_HEADER: _plain(text)}


def assignment_of(headers: Mapping[str, Payload]) -> Assignment | None:
    """The assignment in the headers of a step; None if it was scheduled without one."""
    payload = headers.get(ASSIGNMENT_HEADER)
    return None if payload is None else _value(payload, ASSIGNMENT_HEADER, _read_assignment)


_assignments = TypeAdapter(Assignment)

# telemetry reads it as well, in the same process, and when the step has ended once more
_read_assignment = lru_cache(maxsize=ASSIGNMENTS)(_assignments.validate_json)


def _plain(text: bytes) -> Payload:
    return Payload(metadata={"encoding": PLAIN}, data=text)


def _value(payload: Payload, name: str, read: Callable[[bytes], ValueT]) -> ValueT:
    try:
        return read(_text(payload))
    except (ValidationError, zlib.error) as error:
        raise ConfigurationError(
            f"header {name} cannot be read ({_reason(error)}); it comes from another version, or from a "
            "header codec that this process lacks"
        ) from error


def _text(payload: Payload) -> bytes:
    if payload.metadata.get("encoding") == PLAIN:
        return payload.data
    return zlib.decompressobj().decompress(payload.data, LARGEST_BYTES)


def _reason(error: ValidationError | zlib.error) -> str:
    if isinstance(error, zlib.error):
        return "it is not compressed JSON"
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
