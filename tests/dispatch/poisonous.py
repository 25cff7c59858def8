"""Agents and steps that pass on whatever bytes they are given."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from orchestrator import Application, agent, call, step


class Order(BaseModel):
    number: int
    lines: list[str] = []


@step(kind="code", expected=timedelta(milliseconds=5))
async def take(order: Order) -> int:
    return order.number


@step(kind="code", repeatable=False)
async def take_queued(order: Order) -> int:
    return order.number


@step(kind="code", repeatable=False)
async def take_anything(value: Any) -> str:
    return type(value).__name__


@step(kind="code", expected=timedelta(milliseconds=5))
async def unwritable() -> Any:
    return object()


@step(kind="code", repeatable=False)
async def unwritable_queued() -> Any:
    return [object()]


@step(kind="code", repeatable=False)
async def unreadable() -> Order:
    return RawValue(Payload(metadata={"encoding": b"json/plain"}, data=b"\xff\xfe"))  # type: ignore[return-value]


@agent(steps={take: 1, take_queued: 1, take_anything: 1})
class Taking:
    """Its own argument is typed."""

    @workflow.run
    async def run(self, order: Order) -> int:
        return await call(take, order)


@agent(steps={take: 1, take_queued: 1, take_anything: 1})
class Forwarding:
    """Hands what it is given to a step, unread."""

    @workflow.run
    async def run(self, step: str, value: RawValue) -> Any:
        return await workflow.execute_activity(
            step, value, start_to_close_timeout=timedelta(seconds=10), result_type=int
        )


@agent(steps={unwritable: 1, unwritable_queued: 1, unreadable: 1})
class Producing:
    """What a step returns cannot be sent, or not be read."""

    @workflow.run
    async def run(self, step: str) -> Order:
        return await workflow.execute_activity(
            step, start_to_close_timeout=timedelta(seconds=10), result_type=Order
        )


@agent(steps={})
class Returning:
    """Returns what cannot be written."""

    @workflow.run
    async def run(self) -> Any:
        return object()


@agent(steps={})
class Waiting:
    """Takes a signal and an update with an order each."""

    def __init__(self) -> None:
        self._orders: list[Order] = []

    @workflow.run
    async def run(self) -> Sequence[int]:
        await workflow.wait_condition(lambda: len(self._orders) == 2)
        return [order.number for order in self._orders]

    @workflow.signal
    def send(self, order: Order) -> None:
        self._orders.append(order)

    @workflow.update
    def bring(self, order: Order) -> int:
        self._orders.append(order)
        return order.number


application = Application(
    agents=[Taking, Forwarding, Producing, Returning, Waiting],
    steps=[take, take_queued, take_anything, unwritable, unwritable_queued, unreadable],
)
