"""Workflows of an application that knows nothing of Edgeward."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow

QUEUE = "plain-queue"
SOON = timedelta(seconds=20)
PAUSE = timedelta(milliseconds=300)


@activity.defn
async def add(number: int) -> int:
    return number + 1


@workflow.defn
class Child:
    @workflow.run
    async def run(self, number: int) -> int:
        return await workflow.execute_activity(add, number, start_to_close_timeout=SOON)


@workflow.defn
class Parent:
    @workflow.run
    async def run(self, number: int) -> int:
        number = await workflow.execute_activity(add, number, start_to_close_timeout=SOON)
        number = await workflow.execute_local_activity(add, number, start_to_close_timeout=SOON)
        await asyncio.sleep(PAUSE.total_seconds())
        return await workflow.execute_child_workflow(
            Child.run, number, id=f"{workflow.info().workflow_id}-child"
        )


@workflow.defn
class Clash:
    """Its child has an id that is taken."""

    @workflow.run
    async def run(self, taken: str) -> str:
        try:
            await workflow.execute_child_workflow(Child.run, 1, id=taken)
        except Exception as error:
            return type(error).__name__
        return "started"


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, left: int) -> int:
        await workflow.execute_activity(add, left, start_to_close_timeout=SOON)
        if left:
            workflow.continue_as_new(left - 1)
        return left


@workflow.defn
class Nothing:
    @workflow.run
    async def run(self) -> None:
        """Has no step at all."""


@workflow.defn
class Patient:
    """Waits for a signal under a timeout, with a step that nobody takes."""

    def __init__(self) -> None:
        self._ended = False

    @workflow.run
    async def run(self, with_step: bool) -> int:
        if with_step:
            workflow.start_activity(
                add, 1, task_queue="nobody-polls", schedule_to_close_timeout=timedelta(minutes=5)
            )
        await workflow.wait_condition(lambda: self._ended, timeout=timedelta(minutes=5))
        return 1

    @workflow.signal
    def end(self) -> None:
        self._ended = True


WORKFLOWS = [Parent, Child, Clash, Chain, Nothing, Patient]
