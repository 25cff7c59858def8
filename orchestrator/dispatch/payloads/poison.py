"""A value that cannot be read or written fails its run, and nothing else.

Left alone, the SDK fails the workflow task, or the attempt of a step, with such a value, and Temporal
tries both again for ever. The same bytes never become readable, so the converters raise typed errors
here, and the failure that goes to the server says that it is final.

What a codec cannot decode is not judged here: its key may be away for a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import FailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError, FailureError

from orchestrator.errors import (
    BackendError,
    EdgewardError,
    StoreUnavailableError,
    UnreadablePayloadError,
    UnwritableValueError,
)

LONGEST_NAME = 60
"""Characters of an encoding or a type that a message shows."""


class _TypedErrors(PayloadConverter):
    """In front of a payload converter: whatever it raises has a type, and quotes no value."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """See base class."""
        try:
            return super().to_payloads(values)  # pyright: ignore[reportAbstractUsage] -- of the class that it stands in front of
        except (EdgewardError, FailureError):
            raise
        except Exception as error:
            types = ", ".join(_shown(type(value).__qualname__) for value in values)
            # without its cause, which may quote the value
            raise UnwritableValueError(
                f"a value of type {types} cannot be encoded ({_reason(error, ())}); "
                "return and pass what the data converter can write"
            ) from None

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """See base class."""
        try:
            return super().from_payloads(payloads, type_hints)  # pyright: ignore[reportAbstractUsage] -- the same
        except (EdgewardError, FailureError):
            raise
        except Exception as error:
            encodings = ", ".join(dict.fromkeys(_encoding(payload) for payload in payloads))
            types = ", ".join(_type_name(hint) for hint in type_hints or ()) or "any value"
            reason = _reason(error, type_hints or ())
            raise UnreadablePayloadError(
                f"a payload of encoding {encodings} cannot be read as {types} ({reason}); "
                "send what the receiver declares, with the converter and codec that it has"
            ) from None


class _FinalFailures(FailureConverter):
    """In front of a failure converter: errors of ours that no repetition helps are not retried."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        """See base class."""
        super().to_failure(_final(exception) or exception, payload_converter, failure)  # pyright: ignore[reportAbstractUsage] -- the same


@lru_cache(maxsize=64)
def typed_errors(converter: type[PayloadConverter]) -> type[PayloadConverter]:
    """The same payload converter, raising typed errors."""
    if issubclass(converter, _TypedErrors):
        return converter
    return type(converter.__name__, (_TypedErrors, converter), {"__module__": converter.__module__})


@lru_cache(maxsize=64)
def final_failures(converter: type[FailureConverter]) -> type[FailureConverter]:
    """The same failure converter, marking failures as final that are."""
    if issubclass(converter, _FinalFailures):
        return converter
    return type(converter.__name__, (_FinalFailures, converter), {"__module__": converter.__module__})


def _final(exception: BaseException) -> ApplicationError | None:
    """As history keeps an error of ours that no repetition helps; None for any other."""
    error: BaseException | None = exception
    if isinstance(error, ApplicationError) and isinstance(error.__cause__, UnreadablePayloadError):
        error = error.__cause__  # the SDK says of a step's arguments only that they cannot be decoded
    if not isinstance(error, EdgewardError) or isinstance(error, BackendError | StoreUnavailableError):
        return None
    if isinstance(error, ApplicationError):
        return error  # it says so itself
    final = ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
    final.__cause__ = error.__cause__
    return final.with_traceback(error.__traceback__)


def _reason(error: Exception, types: Sequence[type]) -> str:
    """What is wrong, without the value that is: of a path only the field, for keys below are data."""
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_context=False, include_input=False)[0]
        fields = {name for each in types for name in getattr(each, "model_fields", ())}
        at = [str(part) for part in found["loc"][:1] if part in fields]
        return ": ".join([*at, found["type"]])
    if isinstance(error, KeyError):
        return "no converter knows this encoding"
    if isinstance(error, PydanticSerializationError | TypeError):
        return "its type is not known"
    return type(error).__name__


def _encoding(payload: Payload) -> str:
    return _shown(payload.metadata.get("encoding", b"none").decode("utf-8", "replace"))


def _type_name(hint: object) -> str:
    return _shown(hint.__qualname__ if isinstance(hint, type) else str(hint))


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"
