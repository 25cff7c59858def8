"""The payload converter of applications that did not choose one: pydantic's, prepared once a process."""

from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)

TYPES = 256
"""So many argument and result types are kept ready. A sandboxed run brings its own copies of the types
that its module defines; the limit keeps those of runs that ended from staying for ever."""

_json = PydanticJSONPlainPayloadConverter(max_cached_type_adapters=TYPES)
_converters = tuple(
    _json if isinstance(converter, JSONPlainPayloadConverter) else converter
    for converter in DefaultPayloadConverter.default_encoding_payload_converters
)


class PreparedPydanticConverter(CompositePayloadConverter):
    """Encodes and decodes exactly as the SDK's ``PydanticPayloadConverter`` does, at less cost.

    The SDK makes a converter for every run and for every activation of one. Made anew, each
    prepares the validators of the run's types again; here they share them.
    """

    def __init__(self) -> None:
        super().__init__(*_converters)
