"""The answer of a run in the response to its start: an update that waits for what the run returns.

``EdgeClient.submit`` starts a run and waits for this update in one request (Temporal's
update-with-start), so that start and result take one round trip instead of two. The server
responds once it has written the run's end: such an answer is as durable as one that is polled for.

Everything here but the constants runs in workflows. The update is accepted and completed by the
SDK's messages, not by commands, so a run behaves the same with it and without.
"""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from orchestrator.dispatch.early import early_answers

ANSWER_UPDATE = "edgeward.answer"

LARGEST_BYTES = 256 * 1024
"""Of an answer that travels in the update: history keeps it twice, as the update's outcome and as the
run's result. A larger one is read from the result, which costs another round trip."""

ELSEWHERE = Payload(metadata={"encoding": b"binary/null", "edgeward": b"read the result"})
"""Says that there is no answer here: the run failed, goes on as new, or returned much."""


class AnswerUpdate:
    """Answers the update of one run."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[Payload] | None = None

    def install(self) -> None:
        """Makes the run answer. Called before any of its code: the update comes with the start."""

        # no method, and its hint no text: the SDK reads both anew for each run, in a third of the time
        async def wait() -> RawValue:
            return await self._answered()

        workflow.set_update_handler(ANSWER_UPDATE, wait)  # pyright: ignore[reportUnknownMemberType] -- the SDK leaves handlers' types open

    async def give(self, result: Any) -> None:
        """Hands over what the run returned, encoded.

        Args:
            result: Of the workflow; a raw value, or what has no encoding here.
        """
        payload = result.payload if isinstance(result, RawValue) else None
        if not workflow.unsafe.is_replaying():
            early_answers.give(workflow.info().workflow_id, payload)
        if self._answer is None:
            return  # nobody asked
        if payload is None or payload.ByteSize() > LARGEST_BYTES:
            payload = ELSEWHERE
        self._answer.set_result(payload)
        # the update completes before the run does
        await asyncio.sleep(0)

    async def give_nothing(self) -> None:
        """Sends whoever waits to the run's own end."""
        await self.give(None)

    async def _answered(self) -> RawValue:
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
        return RawValue(await asyncio.shield(self._answer))
