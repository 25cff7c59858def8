"""Refusing what Temporal cannot carry, before it is sent.

The server accepts payloads up to 2 MiB. A client's call that exceeds it fails late; a
workflow's or an activity's is retried for ever by the SDK. So sizes are checked where the
values are encoded, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter

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
        With a converter that does not know raw values: the values as they were.

    Raises:
        PayloadTooLargeError: Together they exceed the limit.
    """
    if not values:
        return []
    payloads = converter.to_payloads(values)
    size_bytes = sum(payload.ByteSize() for payload in payloads)
    if size_bytes > LIMIT_BYTES:
        raise PayloadTooLargeError(
            f"{what} has {size_bytes / 1024**2:.1f} MiB, Temporal carries {LIMIT_BYTES // 1024**2} MiB; "
            "keep it in object storage and pass its address"
        )
    if not passes_raw_values(converter):
        return list(values)
    return [RawValue(payload) for payload in payloads]


def passes_raw_values(converter: PayloadConverter) -> bool:
    """Whether it leaves raw values alone, as the SDK's own do; one that an application wrote may not."""
    known = _passing.get(converter)
    if known is None:
        known = _passing[converter] = _passes(converter)
    return known


_passing: WeakKeyDictionary[PayloadConverter, bool] = WeakKeyDictionary()
"""Converters that were asked: the answer costs as much as encoding a value."""


def _passes(converter: PayloadConverter) -> bool:
    probe = Payload(data=b"probe")
    try:
        return list(converter.to_payloads([RawValue(probe)])) == [probe]
    except Exception:  # whatever it raises, the answer is no
        return False
