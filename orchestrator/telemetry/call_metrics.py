"""The metrics of calls to backends, as the conventions of generative AI and of databases name them.

Instruments of the OpenTelemetry API: without a meter provider they record nothing and cost next to
nothing. Bucket boundaries are those that the conventions recommend.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import metrics
from opentelemetry.metrics import Histogram

from orchestrator.telemetry import names

_DURATIONS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_CHUNKS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_DATABASE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_TOKENS = tuple(4.0**power for power in range(14))

_meter = metrics.get_meter(names.INSTRUMENTATION_SCOPE)


def _seconds(name: str, description: str, boundaries: tuple[float, ...]) -> Histogram:
    return _meter.create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=boundaries
    )


operation_duration = _seconds(
    names.CLIENT_OPERATION_DURATION, "Duration of a call to a model or of a retrieval.", _DURATIONS_S
)
tool_duration = _seconds(names.EXECUTE_TOOL_DURATION, "Duration of a call of a tool.", _DURATIONS_S)
database_duration = _seconds(
    names.DB_CLIENT_OPERATION_DURATION, "Duration of an operation of a collection's store.", _DATABASE_S
)
_time_to_first_chunk = _seconds(
    names.CLIENT_TIME_TO_FIRST_CHUNK,
    "From the request to the first piece of a streamed answer.",
    _FIRST_CHUNKS_S,
)
_token_usage = _meter.create_histogram(
    names.CLIENT_TOKEN_USAGE,
    unit="{token}",
    description="Tokens that a call read and wrote.",
    explicit_bucket_boundaries_advisory=_TOKENS,
)


def record_first_chunk(seconds: float, attributes: Mapping[str, str | int]) -> None:
    """Records how long the first piece of a streamed answer took."""
    _time_to_first_chunk.record(seconds, attributes)


def record_tokens(
    input_tokens: int | None, output_tokens: int | None, attributes: Mapping[str, str | int]
) -> None:
    """Records the tokens of a call, as far as the endpoint said them."""
    if input_tokens is not None:
        _token_usage.record(input_tokens, {**attributes, names.TOKEN_TYPE: names.TOKEN_TYPE_INPUT})
    if output_tokens is not None:
        _token_usage.record(output_tokens, {**attributes, names.TOKEN_TYPE: names.TOKEN_TYPE_OUTPUT})
