"""The event loop of a worker's process."""

import asyncio


def event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop's where there is one, else Python's own.

    For ``asyncio.Runner(loop_factory=event_loop)``. A worker spends much of its time in the loop: each
    step passes through it a dozen times.
    """
    try:
        import uvloop  # not for Windows
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
