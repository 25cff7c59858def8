"""Bytes that cannot be read, and values that cannot be written, fail their run; the worker goes on."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.api.common.v1 import Header, Payload, Payloads, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dispatch.headers import ASSIGNMENT_HEADER, PLAN_HEADER
from orchestrator.errors import UnreadablePayloadError
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Region, Topology
from tests.dispatch.conftest import server
from tests.dispatch.poisonous import (
    Forwarding,
    Order,
    Producing,
    Returning,
    Taking,
    Waiting,
    application,
)
from tests.dispatch.test_placed_runs import innermost

QUEUE = "frankfurt.agents"
GOOD = Payload(metadata={"encoding": b"json/plain"}, data=b'{"number": 7}')
SECRET = b"my-very-secret-word"

POISON = {
    "no JSON": Payload(metadata={"encoding": b"json/plain"}, data=SECRET),
    "another type": Payload(metadata={"encoding": b"json/plain"}, data=b'{"number": "%s"}' % SECRET),
    "invalid UTF-8": Payload(metadata={"encoding": b"json/plain"}, data=b'{"number": "\xff\xfe\x80"}'),
    "deep": Payload(metadata={"encoding": b"json/plain"}, data=b"[" * 100_000 + b"]" * 100_000),
    "a huge number": Payload(
        metadata={"encoding": b"json/plain"}, data=b'{"number": 1%s}' % (b"0" * 100_000)
    ),
    "an endless number": Payload(metadata={"encoding": b"json/plain"}, data=b'{"number": 1e999999}'),
    "no encoding": Payload(data=SECRET),
    "a codec that is missing": Payload(metadata={"encoding": b"binary/encrypted"}, data=SECRET),
    "an encoding that is no text": Payload(metadata={"encoding": b"\xff\xfe"}, data=SECRET),
    "an unknown message": Payload(
        metadata={"encoding": b"binary/protobuf", "messageType": b"no.such.Message"}, data=SECRET
    ),
    "a message without a type": Payload(metadata={"encoding": b"json/protobuf"}, data=SECRET),
    "a damaged message": Payload(
        metadata={"encoding": b"binary/protobuf", "messageType": b"temporal.api.common.v1.Payload"},
        data=b"\xff" * 40,
    ),
    "nothing": Payload(metadata={"encoding": b"json/plain"}),
}


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Topology]:
    """One region that serves the agents, on a real server."""
    europe = server("europe")
    topology = Topology(
        cells=(Cell(name="europe", region="frankfurt", address=europe.address, namespace="europe"),),
        regions=(Region(name="frankfurt", coordinates=Coordinates(50.1, 8.7), country="DE", cell="europe"),),
    )
    async with Supervisor(tmp_path_factory.mktemp("cell")) as supervisor:
        await start_cell(europe, supervisor)
        worker = RegionWorker(topology, "frankfurt", application, warm_up=False)
        serving = asyncio.create_task(worker.serve())
        yield topology
        worker.stop()
        await serving


@pytest.fixture(scope="module")
async def raw(place: Topology) -> Client:
    """A client that knows nothing of Edgeward."""
    return await Client.connect(place.cells[0].address or "", namespace="europe")


@pytest.fixture(scope="module")
async def edge(place: Topology) -> AsyncIterator[EdgeClient]:
    async with await EdgeClient.connect(place, application=application, watch=False) as client:
        yield client


async def failure(handle: WorkflowHandle[object, object]) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failed:
        async with asyncio.timeout(30):
            await handle.result()
    error = innermost(failed.value)
    assert SECRET.decode() not in str(error)
    history = await handle.fetch_history()
    attempts = [
        event.activity_task_started_event_attributes.attempt
        for event in history.events
        if event.HasField("activity_task_started_event_attributes")
    ]
    assert set(attempts) <= {1}, "it was tried again"
    assert not any(event.HasField("workflow_task_failed_event_attributes") for event in history.events)
    return error


async def assert_serves(edge: EdgeClient) -> None:
    async with asyncio.timeout(30):
        assert await edge.execute(Taking.run, Order(number=7), origin="frankfurt") == 7


@pytest.mark.parametrize("name", POISON)
async def test_a_poisonous_argument_fails_its_run(raw: Client, edge: EdgeClient, name: str) -> None:
    handle = await raw.start_workflow(
        "Taking", RawValue(POISON[name]), id=f"poison-{uuid.uuid4().hex}", task_queue=QUEUE
    )
    assert (await failure(handle)).type == "UnreadablePayloadError"
    await assert_serves(edge)


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("step", ["take", "take_queued"])
async def test_a_poisonous_argument_of_a_step_is_not_tried_again(
    edge: EdgeClient, step: str, name: str
) -> None:
    run = await edge.start(Forwarding.run, step, RawValue(POISON[name]), origin="frankfurt")
    handle = run.handle
    assert run.plan.root.steps[step].chosen.dispatch == ("inline" if step == "take" else "queue")
    error = await failure(handle)
    assert (error.type, error.non_retryable) == ("UnreadablePayloadError", True)
    await assert_serves(edge)


@pytest.mark.parametrize("name", ["no JSON", "a codec that is missing"])
async def test_the_same_without_a_plan(raw: Client, edge: EdgeClient, name: str) -> None:
    handle = await raw.start_workflow(
        "Forwarding",
        args=["take_queued", RawValue(POISON[name])],
        id=f"poison-{uuid.uuid4().hex}",
        task_queue=QUEUE,
    )
    assert (await failure(handle)).type == "UnreadablePayloadError"
    await assert_serves(edge)


@pytest.mark.parametrize("step", ["unwritable", "unwritable_queued", "unreadable"])
@pytest.mark.parametrize("planned", [True, False], ids=["planned", "plain"])
async def test_a_poisonous_result_of_a_step_fails_its_run(
    raw: Client, edge: EdgeClient, step: str, planned: bool
) -> None:
    if planned:
        handle = (await edge.start(Producing.run, step, origin="frankfurt")).handle
    else:
        handle = await raw.start_workflow(
            "Producing", step, id=f"poison-{uuid.uuid4().hex}", task_queue=QUEUE
        )
    expected = "UnreadablePayloadError" if step == "unreadable" else "UnwritableValueError"
    assert (await failure(handle)).type == expected
    await assert_serves(edge)


async def test_a_result_that_cannot_be_written_fails_its_run(raw: Client, edge: EdgeClient) -> None:
    plain = await raw.start_workflow("Returning", id=f"poison-{uuid.uuid4().hex}", task_queue=QUEUE)
    planned = await edge.start(Returning.run, origin="frankfurt")
    for handle in (plain, planned.handle):
        assert (await failure(handle)).type == "UnwritableValueError"
    await assert_serves(edge)


@pytest.mark.parametrize("name", POISON)
async def test_a_poisonous_signal_is_dropped_and_an_update_refused(
    raw: Client, edge: EdgeClient, name: str
) -> None:
    run = await edge.start(Waiting.run, origin="frankfurt")
    handle = raw.get_workflow_handle(run.id)
    await handle.signal("send", RawValue(POISON[name]))
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update("bring", RawValue(POISON[name]))
    assert innermost(refused.value).type == "UnreadablePayloadError"
    await handle.signal("send", RawValue(GOOD))
    assert await handle.execute_update("bring", RawValue(GOOD)) == 7
    async with asyncio.timeout(30):
        assert await run.result() == [7, 7]
    await assert_serves(edge)


@pytest.mark.parametrize(
    "header",
    [
        Payload(data=b""),
        Payload(metadata={"encoding": b"json/plain"}, data=b'{"version": 1}'),
        Payload(metadata={"encoding": b"json/zlib"}, data=b"\x78\x9c\x00"),
    ],
    ids=["empty", "lacking", "cut"],
)
@pytest.mark.parametrize("name", [PLAN_HEADER, ASSIGNMENT_HEADER])
async def test_a_damaged_header_fails_its_run(
    raw: Client, edge: EdgeClient, name: str, header: Payload
) -> None:
    workflow_id = f"poison-{uuid.uuid4().hex}"
    await raw.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace="europe",
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name="Taking"),
            task_queue=TaskQueue(name=QUEUE),
            input=Payloads(payloads=[GOOD]),
            request_id=uuid.uuid4().hex,
            header=Header(fields={name: header}),
        )
    )
    handle = raw.get_workflow_handle(workflow_id)
    if name == PLAN_HEADER:
        assert (await failure(handle)).type == "ConfigurationError"
    else:  # no business of a run
        assert await handle.result() == 7
    await assert_serves(edge)


async def test_a_result_of_another_type_is_told_to_the_caller(raw: Client, edge: EdgeClient) -> None:
    run = await edge.start(Taking.run, Order(number=7), origin="frankfurt")
    await run.result()
    typed = edge.cell("europe").get_workflow_handle(run.id, result_type=Order)
    with pytest.raises(UnreadablePayloadError, match="encoding json/plain cannot be read as Order"):
        await typed.result()


def test_what_the_agents_are_is_what_is_served() -> None:
    assert {Taking, Forwarding, Producing, Returning, Waiting} == set(application.agents)
