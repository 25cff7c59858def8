"""A model endpoint that fails: a typed error in the run, with endpoint and region, and the worker lives."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy

from orchestrator import Application, EdgeClient, Needs, agent, backends, call, step
from orchestrator.backends import Message
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Offer, Topology
from tests.dispatch.failing_endpoint import FailingEndpoint, failing_endpoint
from tests.dispatch.test_placed_runs import innermost

QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)


class Colour(BaseModel):
    colour: str


@step(needs=Needs(model="painter"), timeout=timedelta(seconds=2), retry=QUICK)
async def paint(streaming: bool) -> str:
    model = backends.model("painter")
    if streaming:
        return (await model.chat_streaming([Message.user("A colour?")])).text
    return (await model.chat([Message.user("A colour?")], schema=Colour)).parsed.colour


@agent(steps={paint: 1})
class Painter:
    @workflow.run
    async def run(self, streaming: bool) -> str:
        return await call(paint, streaming)


painting = Application(agents=[Painter], steps=[paint])


@pytest.fixture(scope="module")
async def endpoint() -> AsyncIterator[FailingEndpoint]:
    async with failing_endpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
async def painter(topology: Topology, endpoint: FailingEndpoint) -> AsyncIterator[EdgeClient]:
    """One region with the endpoint, and one whose endpoint is down; a worker for each."""
    address = topology.cell("europe").address
    offers = {
        "frankfurt": Offer(kind="model", name="painter", endpoint=f"http://127.0.0.1:{endpoint.port}/v1"),
        "dublin": Offer(kind="model", name="painter", endpoint="http://127.0.0.1:1/v1"),
    }
    regions = tuple(
        topology.region(name).model_copy(
            update={"name": f"{name}-p", "cell": name, "offers": (offer,), "control": None}
        )
        for name, offer in offers.items()
    )
    # one server that stands in both regions, so that a run can be bound to either country
    cells = tuple(
        Cell(name=region.cell, region=region.name, address=address, namespace="europe") for region in regions
    )
    painted = Topology(cells=cells, regions=regions)
    workers = [RegionWorker(painted, region.name, painting, warm_up=False) for region in regions]
    serving = [asyncio.create_task(worker.serve()) for worker in workers]
    async with await EdgeClient.connect(painted, application=painting, watch=False) as client:
        yield client
    for worker in workers:
        worker.stop()
    await asyncio.gather(*serving)


@pytest.mark.parametrize(
    ("failure", "streaming", "kind", "tries"),
    [
        ("500", False, "BackendFaultError", 2),
        ("429", False, "BackendOverloadedError", 2),
        ("empty", False, "MalformedResponseError", 2),
        ("invalid", False, "MalformedResponseError", 2),
        ("schema", False, "SchemaViolationError", 2),
        ("slow", False, "BackendTimeoutError", 2),
        ("cut", True, "StreamInterruptedError", 2),
    ],
)
async def test_a_failing_endpoint_is_a_typed_error_and_the_worker_lives(
    painter: EdgeClient, endpoint: FailingEndpoint, failure: str, streaming: bool, kind: str, tries: int
) -> None:
    endpoint.failure, endpoint.requests = failure, 0
    run = await painter.start(Painter.run, streaming, origin="frankfurt-p", residency="DE")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == kind
    assert f"127.0.0.1:{endpoint.port}" in str(error)
    assert "frankfurt-p" in str(error)
    assert endpoint.requests == tries
    endpoint.failure = None
    run = await painter.start(Painter.run, False, origin="frankfurt-p", residency="DE")
    assert await run.result() == "red"


async def test_an_endpoint_that_is_down_is_told_as_unreachable(painter: EdgeClient) -> None:
    run = await painter.start(Painter.run, False, origin="dublin-p", residency="IE")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == "BackendUnreachableError"
    assert error.details[0]["recovery"] == "elsewhere"
    assert error.details[0]["region"] == "dublin-p"
