"""The payload converter of applications that did not choose one: pydantic's, prepared once a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1.external_storage_pb2 import ExternalStorageReference
from temporalio.common import RawValue
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultPayloadConverter,
    ExternalStorage,
    FailureConverter,
    JSONPlainPayloadConverter,
    PayloadConverter,
    SerializationContext,
)

from orchestrator.dispatch.payloads.poison import final_failures, typed_errors
from orchestrator.stores import LostPayloadError

TYPES = 256
"""So many argument and result types are kept ready. A sandboxed run brings its own copies of the types
that its module defines; the limit keeps those of runs that ended from staying for ever."""

REFERENCE = ExternalStorageReference.DESCRIPTOR.full_name.encode()
"""In a payload's metadata: it stands for one that is kept in a store."""

_json = PydanticJSONPlainPayloadConverter(max_cached_type_adapters=TYPES)
_prepared = CompositePayloadConverter(
    *(
        _json if isinstance(converter, JSONPlainPayloadConverter) else converter
        for converter in DefaultPayloadConverter.default_encoding_payload_converters
    )
)


_SURELY_JSON: frozenset[type] = frozenset({str, int, float, bool, list, dict, tuple})
"""Exactly these: a class made of one may be another converter's."""


class PreparedPydanticConverter(CompositePayloadConverter):
    """Encodes and decodes exactly as the SDK's ``PydanticPayloadConverter`` does, at less cost.

    The SDK makes a converter for every run and for every activation of one. Made anew, each
    prepares the validators of the run's types again; here they share them.
    """

    def __init__(self) -> None:
        self.converters = _prepared.converters  # all that the base class keeps

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """See base class, which asks each converter in turn: JSON, by far the most frequent, comes last."""
        payloads: list[Payload] = []
        for value in values:
            payload = None
            if type(value) in _SURELY_JSON or isinstance(value, BaseModel):
                payload = _json.to_payload(value)
            elif isinstance(value, RawValue):
                payload = value.payload
            if payload is None:
                [payload] = super().to_payloads([value])
            payloads.append(payload)
        return payloads

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
        if self.payload_codec is None:
            return self
        return super().with_context(context)

    async def _external_retrieve_payload_sequence(self, payloads: Sequence[Payload]) -> list[Payload]:
        if self.external_storage is not None:
            return await super()._external_retrieve_payload_sequence(payloads)
        # the SDK's error would have the workflow task tried again for ever
        if any(map(_is_reference, payloads)):
            raise LostPayloadError(
                "a payload is kept in a store, and no region of this topology has one; "
                "add the store of its region, or correct who sent it"
            )
        return list(payloads)


def _is_reference(payload: Payload) -> bool:
    return payload.metadata.get("messageType") == REFERENCE


def data_converter(existing: DataConverter | None, storage: ExternalStorage | None) -> DataConverter:
    """The data converter of a client and its workers.

    Args:
        existing: What the application chose. The pydantic converter stands in for the SDK's default
            one, which it extends; its codec, its failure converter and its storage stay.
        storage: The stores of the topology.
    """
    if existing is None:
        return PreparedDataConverter(external_storage=storage)
    converter = existing.payload_converter_class
    if converter is DataConverter.default.payload_converter_class:
        converter = PreparedPydanticConverter
    made = existing
    if type(existing) is DataConverter:
        made = PreparedDataConverter(payload_codec=existing.payload_codec)
    return replace(
        made,
        payload_converter_class=typed_errors(converter),
        failure_converter_class=final_failures(existing.failure_converter_class),
        external_storage=existing.external_storage or storage,
    )
