"""Refusing what Temporal cannot carry, before it is sent.

The server accepts payloads up to 2 MiB. A client's call that exceeds it fails late; a
workflow's or an activity's is retried for ever by the SDK. So sizes are checked where the
values are encoded, once. What a region's store will take counts no longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.converter import PayloadConverter

from orchestrator.dispatch.failures import as_failure
from orchestrator.errors import PayloadTooLargeError
from orchestrator.stores import LARGEST_BYTES, OFFLOADED_BYTES

LIMIT_BYTES = 2 * 1024 * 1024
"""The server's ``limit.blobSize.error``, by default."""

CONVERTERS = 256
"""So many that were asked are remembered, each run's own: the answer costs as much as encoding a value."""


def checked(
    values: Sequence[Any], converter: PayloadConverter, what: str, *, stored: bool = False
) -> list[Any]:
    """The same values, encoded, if they fit.

    Args:
        values: Arguments or results.
        converter: Of the client or workflow that sends them.
        what: The thing and place, for the error: ``input of step answer``.
        stored: Whether a store takes what is large.

    Returns:
        Raw values that the SDK passes on as they are, so that nothing is encoded twice.
        With a converter that does not know raw values: the values as they were.

    Raises:
        PayloadTooLargeError: Together they exceed the limit, or one exceeds what a store takes.
        UnwritableValueError: One of them has no encoding.
    """
    if not values:
        return []
    payloads = converter.to_payloads(values)
    sizes_bytes = [payload.ByteSize() for payload in payloads]
    if sum(sizes_bytes) > LIMIT_BYTES:
        _check(sizes_bytes, what, stored)
    if not passes_raw_values(converter):
        return list(values)
    return [RawValue(payload) for payload in payloads]


def _check(sizes_bytes: Sequence[int], what: str, stored: bool) -> None:
    if stored:
        largest = max(sizes_bytes)
        if largest > LARGEST_BYTES:
            raise PayloadTooLargeError(
                f"{what} has {largest / 1024**2:.1f} MiB, a store takes {LARGEST_BYTES // 1024**2} MiB; "
                "keep it elsewhere and pass its address"
            )
        sizes_bytes = [size_bytes for size_bytes in sizes_bytes if size_bytes < OFFLOADED_BYTES]
    size_bytes = sum(sizes_bytes)
    if size_bytes > LIMIT_BYTES:
        raise PayloadTooLargeError(
            f"{what} has {size_bytes / 1024**2:.1f} MiB, Temporal carries {LIMIT_BYTES // 1024**2} MiB; "
            "give the region where it is made a store, or pass the address of what you keep elsewhere"
        )


def checked_in_workflow(values: Sequence[Any], what: str, *, stored: bool) -> list[Any]:
    """The same in a workflow: what does not fit fails the run, not its workflow task.

    Args:
        values: Arguments or results.
        what: The thing and place, for the error.
        stored: Whether large values go to a store.

    Raises:
        ApplicationError: Together they exceed the limit.
    """
    try:
        return checked(values, workflow.payload_converter(), what, stored=stored)
    except PayloadTooLargeError as error:
        raise as_failure(error) from None


@lru_cache(maxsize=CONVERTERS)
def passes_raw_values(converter: PayloadConverter) -> bool:
    """Whether it leaves raw values alone, as the SDK's own do; one that an application wrote may not."""
    probe = Payload(data=b"probe")
    try:
        return list(converter.to_payloads([RawValue(probe)])) == [probe]
    except Exception:  # whatever it raises, the answer is no
        return False
