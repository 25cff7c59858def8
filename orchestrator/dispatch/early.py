"""Handing an answer to a caller in the home's own process, before its cell has written it.

The way from the end of an agent's code to a caller that polls for the result leads through the
cell's server: about ten milliseconds. A caller that is content with less than a durable answer
can have it from the workflow itself, where both are in one process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager

from temporalio.api.common.v1 import Payload

EarlyAnswer = asyncio.Future[Payload | None]
"""What a run returned; None where it did not, or not with something that can be encoded here."""


class EarlyAnswers:
    """Who waits in this process for which run. ``give`` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: dict[str, EarlyAnswer] = {}
        self._lock = threading.Lock()

    @contextmanager
    def expected(self, workflow_id: str) -> Generator[EarlyAnswer]:
        """The answer of this run, while the block lasts."""
        answer: EarlyAnswer = asyncio.get_running_loop().create_future()
        with self._lock:
            self._waiting[workflow_id] = answer
        try:
            yield answer
        finally:
            with self._lock:
                self._waiting.pop(workflow_id, None)
            answer.cancel()

    def give(self, workflow_id: str, answer: Payload | None) -> None:
        """Hands an answer to whoever waits for it here, if anyone does."""
        with self._lock:
            waiting = self._waiting.pop(workflow_id, None)
        if waiting is not None:
            waiting.get_loop().call_soon_threadsafe(_settle, waiting, answer)


def _settle(waiting: EarlyAnswer, answer: Payload | None) -> None:
    if not waiting.done():
        waiting.set_result(answer)


early_answers = EarlyAnswers()
"""The one of this process: workflows and callers meet in it."""
