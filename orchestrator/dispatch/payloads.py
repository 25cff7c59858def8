"""Refusing what Temporal cannot carry, before it is sent.

The server accepts payloads up to 2 MiB. A client's call that exceeds it fails late; a
workflow's or an activity's is retried for ever by the SDK. So sizes are checked where the
values are encoded, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio.common import RawValue
from temporalio.converter import CompositePayloadConverter, PayloadConverter

from orchestrator.errors import PayloadTooLargeError

LIMIT_BYTES = 2 * 1024 * 1024
"""The server's ``limit.blobSize.error``, by default."""


def checked(values: Sequence[Any], converter: PayloadConverter, what: str) -> list[Any]:
    """The same values, encoded, if they fit.

    Args:
        values: Arguments or results.
        converter: Of the client or workflow that sends them.
        what: The thing and place, for the error: ``input of step answer``.

    Returns:
        Raw values that the SDK passes on as they are, so that nothing is encoded twice.

    Raises:
        PayloadTooLargeError: Together they exceed the limit.
    """
    if not values or not isinstance(converter, CompositePayloadConverter):
        return list(values)
    payloads = converter.to_payloads(values)
    size_bytes = sum(payload.ByteSize() for payload in payloads)
    if size_bytes > LIMIT_BYTES:
        raise PayloadTooLargeError(
            f"{what} has {size_bytes / 1024**2:.1f} MiB, Temporal carries {LIMIT_BYTES // 1024**2} MiB; "
            "keep it in object storage and pass its address"
        )
    return [RawValue(payload) for payload in payloads]
