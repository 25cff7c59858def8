"""Pausing until something happens."""

import asyncio
from datetime import timedelta


async def within(pause: timedelta, event: asyncio.Event) -> None:
    """Returns when the event is set, or after the pause."""
    try:
        async with asyncio.timeout(pause.total_seconds()):
            await event.wait()
    except TimeoutError:
        pass
