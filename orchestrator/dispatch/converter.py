"""The payload converter of applications that did not choose one: pydantic's, prepared once a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    FailureConverter,
    JSONPlainPayloadConverter,
    PayloadConverter,
    SerializationContext,
)

from orchestrator.dispatch.poison import final_failures, typed_errors

TYPES = 256
"""So many argument and result types are kept ready. A sandboxed run brings its own copies of the types
that its module defines; the limit keeps those of runs that ended from staying for ever."""

_json = PydanticJSONPlainPayloadConverter(max_cached_type_adapters=TYPES)
_prepared = CompositePayloadConverter(
    *(
        _json if isinstance(converter, JSONPlainPayloadConverter) else converter
        for converter in DefaultPayloadConverter.default_encoding_payload_converters
    )
)


class PreparedPydanticConverter(CompositePayloadConverter):
    """Encodes and decodes exactly as the SDK's ``PydanticPayloadConverter`` does, at less cost.

    The SDK makes a converter for every run and for every activation of one. Made anew, each
    prepares the validators of the run's types again; here they share them.
    """

    def __init__(self) -> None:
        self.converters = _prepared.converters  # all that the base class keeps

    def with_context(self, context: SerializationContext) -> Self:
        """Itself: nothing here depends on what a value is part of."""
        return self


_PAYLOADS = typed_errors(PreparedPydanticConverter)
_FAILURES = final_failures(DefaultFailureConverter)


@dataclass(frozen=True)
class PreparedDataConverter(DataConverter):
    """The data converter around it: without a codec it, too, is the same for every value."""

    payload_converter_class: type[PayloadConverter] = _PAYLOADS
    failure_converter_class: type[FailureConverter] = _FAILURES

    def with_context(self, context: SerializationContext) -> Self:
        """See base class. The SDK asks a dozen times a step."""
        if self.payload_codec is None and self.external_storage is None:
            return self
        return super().with_context(context)
