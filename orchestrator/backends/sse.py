"""Reads server-sent events from bytes.

Lines end where the specification says, at CR, LF or both. ``httpx`` would also cut at the
Unicode line separators, which models do write inside of JSON.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator

_LINE_END = re.compile(rb"\r\n|\n|\r")

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""An endpoint that never ends a line does not fill the worker's memory."""


class EventTooLargeError(ValueError):
    """An event is larger than ``MAX_EVENT_BYTES``."""


async def lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The lines in these bytes, without their ends; a last one without an end is dropped, as it was cut."""
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) > MAX_EVENT_BYTES:
            raise EventTooLargeError(f"a line is longer than {MAX_EVENT_BYTES} bytes")
        start = 0
        for end in _LINE_END.finditer(buffer):
            if end.end() == len(buffer) and end.group() == b"\r":
                break  # the LF of a CR LF may be in the next chunk
            yield buffer[start : end.start()]
            start = end.end()
        buffer = buffer[start:]
    if buffer.endswith(b"\r"):
        yield buffer[:-1]


async def data(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The data of each event: what its ``data:`` lines hold."""
    held: list[bytes] = []
    size = 0
    async for line in lines(chunks):
        if not line:
            if held:
                yield b"\n".join(held)
            held, size = [], 0
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            held.append(value.removeprefix(b" "))
            size += len(value)
            if size > MAX_EVENT_BYTES:
                raise EventTooLargeError(f"an event is larger than {MAX_EVENT_BYTES} bytes")
