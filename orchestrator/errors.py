"""Every error that Edgeward raises on purpose.

One base, so that a caller can catch them all, and a small tree below it. A message names
the thing, the place and the remedy; it never holds a secret or a message's content.
"""

import math
from datetime import timedelta
from enum import StrEnum


class EdgewardError(Exception):
    """Base of every error that Edgeward raises on purpose."""


class ConfigurationError(EdgewardError):
    """What an operator or an author wrote cannot be used: a topology, a decorator, an option."""


class TopologyError(ConfigurationError):
    """A topology file is not valid. The message names file, key and remedy."""


class UnknownOriginError(EdgewardError):
    """An origin is no region, no country code, no ``lat,lon`` and no known city."""


class PlacementError(EdgewardError):
    """No allowed place is left for a step or no home for a run.

    Attributes:
        step: The step (or agent) that cannot be placed.
        rule: The rule that removed the last candidate, such as ``residency`` or ``needs``.
        excluded: Region name to the reason why it was excluded.
    """

    def __init__(self, message: str, *, step: str, rule: str, excluded: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.step = step
        self.rule = rule
        self.excluded = excluded or {}


class PayloadTooLargeError(EdgewardError):
    """A value is larger than Temporal accepts (2 MiB), and no store takes it; refused before it is sent."""


class UnreadablePayloadError(EdgewardError):
    """A value that arrived cannot be read: damaged, of another type, or from a codec not known here."""


class UnwritableValueError(EdgewardError):
    """A value cannot be encoded to be sent: its type is not known, or it holds what JSON cannot."""


class StoreUnavailableError(EdgewardError):
    """A region's payload store does not answer, or does not take what it is given; tried again."""


class CellUnavailableError(EdgewardError):
    """The server of a cell does not answer, so a run cannot be started or read there."""


class AdmissionRefusedError(EdgewardError):
    """A run is not started, because where it would run is full; nothing was sent.

    Attributes:
        region: Where the queue is.
        retry_after: When it is worth another try.
    """

    def __init__(self, message: str, *, region: str, retry_after: timedelta) -> None:
        super().__init__(f"{message}; try again in {math.ceil(retry_after.total_seconds())} s")
        self.region = region
        self.retry_after = retry_after


class BudgetExceededError(EdgewardError):
    """A call was not made, because the run's budget has not enough left for it."""


class DeadlineExceededError(EdgewardError):
    """A run, or a step that was to start, is past the run's deadline."""


class DeploymentError(EdgewardError):
    """A build of workers cannot take runs: no cell has seen it, or it lacks a queue."""


class SetupError(EdgewardError):
    """A cell's namespace does not take the search attributes of runs; the message says what to do there."""


class RunFailedError(EdgewardError):
    """A run ended with an error; the message is that of the step, sub-agent or code that ended it."""


class StackError(EdgewardError):
    """The embedded stack cannot start or be reached: a port in use, a missing binary, a full disk."""


class Recovery(StrEnum):
    """What can still help after a backend failed."""

    RETRY_HERE = "retry_here"
    """The same request may succeed on the same endpoint: rate limits, a damaged answer."""

    ELSEWHERE = "elsewhere"
    """This endpoint cannot do it for its own reasons: refused, no answer, HTTP 5xx, a cut stream."""

    FINAL = "final"
    """The request itself is wrong; it fails anywhere: HTTP 400, an unknown tool."""


class RunNotFoundError(EdgewardError):
    """No cell that answered knows the run (any more)."""


class BackendError(EdgewardError):
    """A model, vector store or tool failed; names the endpoint, its region and what can help.

    The activity interceptor turns it into a Temporal ``ApplicationError`` whose type is the
    class name, so that a run's history says which of them it was.

    Attributes:
        endpoint: The endpoint's URL without credentials or query.
        region: The region whose offer it is.
        recovery: What can be tried after it.
        retry_after: How long the endpoint asked to be left alone, if it did.
        status: The HTTP status, if there was an answer.
    """

    recovery: Recovery = Recovery.FINAL

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        region: str,
        recovery: Recovery | None = None,
        retry_after: timedelta | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{message} [endpoint {endpoint}, region {region}]")
        self.endpoint = endpoint
        self.region = region
        self.recovery = recovery or type(self).recovery
        self.retry_after = retry_after
        self.status = status


class BackendUnreachableError(BackendError):
    """Nothing answers at the endpoint: connection refused, name not found, TLS failure."""

    recovery = Recovery.ELSEWHERE


class BackendTimeoutError(BackendError):
    """The endpoint took longer than the step allows."""

    recovery = Recovery.ELSEWHERE


class BackendOverloadedError(BackendError):
    """The endpoint is over its rate or capacity (HTTP 429 or 503); ``retry_after`` says for how long."""

    recovery = Recovery.RETRY_HERE


class BackendFaultError(BackendError):
    """The endpoint failed on its own side (HTTP 5xx)."""

    recovery = Recovery.ELSEWHERE


class BackendRefusedError(BackendError):
    """The endpoint rejects the request itself (HTTP 4xx): wrong arguments, model or credentials."""

    recovery = Recovery.FINAL


class MalformedResponseError(BackendError):
    """The answer cannot be read: an empty body, invalid JSON, a missing field."""

    recovery = Recovery.RETRY_HERE


class StreamInterruptedError(BackendError):
    """A stream ended before its last piece."""

    recovery = Recovery.ELSEWHERE


class SchemaViolationError(BackendError):
    """A model's answer is JSON that breaks the schema it was asked to keep."""

    recovery = Recovery.RETRY_HERE


class ToolError(BackendError):
    """A tool ran and reported an error of its own (bad arguments, nothing found).

    Attributes:
        reported: What the tool said, for the model that called it. No part of the message,
            because it may quote what the user wrote.
    """

    recovery = Recovery.FINAL

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        region: str,
        recovery: Recovery | None = None,
        retry_after: timedelta | None = None,
        status: int | None = None,
        reported: str = "",
    ) -> None:
        super().__init__(
            message,
            endpoint=endpoint,
            region=region,
            recovery=recovery,
            retry_after=retry_after,
            status=status,
        )
        self.reported = reported


class OfferMissingError(BackendError):
    """A step asks for a model, collection or tool that the region it runs in does not offer."""

    recovery = Recovery.FINAL
