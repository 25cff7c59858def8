"""A place that cannot do a step: the step goes to the next one that its run allows."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowHistory

from orchestrator import EdgeClient, EdgewardPlugin
from orchestrator.dispatch import Assignment, assignment_of, starting
from orchestrator.geography import Coordinates
from orchestrator.placement import Plan
from orchestrator.queues import agents_queue
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Link, Offer, Region, Topology
from orchestrator.trace import read_run
from tests.dispatch import wanderers
from tests.dispatch.test_placed_runs import innermost
from tests.dispatch.test_replay import history_of, other_topology, replayer
from tests.dispatch.wanderers import (
    Blocked,
    Cancelling,
    Charging,
    European,
    Impatient,
    Ordinary,
    Settled,
    Wanderer,
    application,
)

ResultT = TypeVar("ResultT")


@pytest.fixture(scope="module")
def topology(topology: Topology) -> Topology:
    """The same regions under other names: the workers of other tests poll queues of the first ones."""
    return Topology(
        cells=tuple(cell.model_copy(update={"region": f"{cell.region}-w"}) for cell in topology.cells),
        regions=tuple(
            region.model_copy(update={"name": f"{region.name}-w", "control": None})
            for region in topology.regions
        ),
        links=tuple(
            Link(source=f"{link.source}-w", target=f"{link.target}-w", rtt_ms=link.rtt_ms)
            for link in topology.links
        ),
    )


@pytest.fixture(scope="module")
async def workers(topology: Topology) -> AsyncIterator[None]:
    """Workers of the three regions, for these agents."""
    workers = [RegionWorker(topology, region.name, application, warm_up=False) for region in topology.regions]
    serving = [asyncio.create_task(worker.serve()) for worker in workers]
    yield
    for worker in workers:
        worker.stop()
    await asyncio.gather(*serving)


@pytest.fixture
async def edge(topology: Topology, workers: None) -> AsyncIterator[EdgeClient]:
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        yield client


@pytest.fixture
def broken() -> Iterator[set[str]]:
    yield wanderers.broken
    wanderers.broken.clear()


def with_absent(topology: Topology, name: str) -> Topology:
    """One more region, whose press is the nearest to Frankfurt, and nobody works there."""
    frankfurt, *others = topology.regions
    desk = Offer(kind="tool", name="desk", endpoint="http://127.0.0.1:1/desk")
    frankfurt = Region.model_validate({**frankfurt.model_dump(), "offers": (desk,)})
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press")
    absent = Region(
        name=name, coordinates=Coordinates(50.0, 8.3), country="DE", cell="europe", offers=(press,)
    )
    return Topology(
        cells=topology.cells,
        regions=(frankfurt, *others, absent),
        links=(*topology.links, Link(source="frankfurt-w", target=name, rtt_ms=1.0)),
    )


def assignments(history: WorkflowHistory) -> list[Assignment]:
    """Of the steps that were queued, in their order."""
    found = [
        assignment_of(event.activity_task_scheduled_event_attributes.header.fields)
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    return [assignment for assignment in found if assignment is not None]


async def taken(client: Client, queue: str) -> None:
    """Takes the next task of a queue, as a worker does that dies with it."""
    await client.workflow_service.poll_activity_task_queue(
        PollActivityTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            identity=f"doomed-{uuid.uuid4().hex}",
        )
    )


async def started_with(
    edge: EdgeClient, plan: Plan, agent: Callable[..., Awaitable[ResultT]], argument: object
) -> WorkflowHandle[Any, ResultT]:
    """A run of this plan, in its home."""
    with starting(plan):
        return await edge.cell(plan.cell).start_workflow(
            agent,
            argument,
            id=f"{plan.root.agent}-{uuid.uuid4().hex}",
            task_queue=agents_queue(plan.home),
        )


async def replays(run: WorkflowHandle[Any, Any], agent: type) -> None:
    plugin = EdgewardPlugin(other_topology(), application=application)
    await replayer(plugin, agent).replay_workflow(await run.fetch_history())


async def test_a_step_that_nobody_takes_goes_to_the_next_place(topology: Topology, workers: None) -> None:
    async with await EdgeClient.connect(
        with_absent(topology, "mainz"), application=application, watch=False
    ) as edge:
        run = await edge.start(Settled.run, "hello", origin="frankfurt-w", residency="EU")
        first, second = await run.result()
        assert run.plan.root.steps["deliver"].chosen.region == "mainz"
        assert (first.region, second.region) == ("dublin-w", "dublin-w")
        assert (first.key, second.key) == (f"{run.run_id}/1", f"{run.run_id}/2")
        told = assignments(await history_of(edge, run.id))
        # the second step knows better
        assert [(one.sequence, one.place) for one in told] == [(1, "mainz"), (1, "dublin-w"), (2, "dublin-w")]
        [earlier] = told[1].earlier
        assert (earlier.place, earlier.reason) == ("mainz", "no worker took it in time")
        [passed_over] = told[2].passed_over
        assert passed_over.place == "mainz"
        assert passed_over.reason == "the region is set aside: no worker took it in time"
        trace = await read_run(edge.cell("europe"), run.id)
        assert [(step.sequence, step.place, len(step.earlier)) for step in trace.steps] == [
            (1, "mainz", 0),
            (1, "dublin-w", 1),
            (2, "dublin-w", 0),
        ]
        assert trace.steps[2].passed_over == (passed_over,)
        assert trace.steps[0].error == "Timeout: activity ScheduleToStart timeout"
        assert trace.steps[0].parts is not None
        assert trace.steps[0].parts.queue_wait_ms >= 1500
        await replays(run.handle, Settled)


async def test_a_step_that_comes_home_because_its_region_is_set_aside_is_queued(edge: EdgeClient) -> None:
    plan = edge.plan(Wanderer.run, origin="dublin-w")
    step = plan.root.steps["deliver"]
    inline, queued = step.candidates
    assert (inline.region, inline.dispatch, queued.dispatch) == ("dublin-w", "inline", "queue")
    absent = queued.model_copy(update={"region": "bingen"})
    turned = step.model_copy(update={"candidates": (absent, inline), "hedge_after_ms": 60_000})
    root = plan.root.model_copy(update={"steps": {"deliver": turned}})
    run = await started_with(edge, plan.model_copy(update={"root": root}), Wanderer.run, "hello")
    first, second = await run.result()
    # where a step runs is live, so a replay could not tell that it was inline
    assert [(one.region, one.dispatch) for one in (first, second)] == [("dublin-w", "queue")] * 2
    await replays(run, Wanderer)


async def test_a_step_whose_worker_falls_silent_goes_to_the_next_place(
    topology: Topology, workers: None
) -> None:
    async with await EdgeClient.connect(
        with_absent(topology, "worms"), application=application, watch=False
    ) as edge:
        doomed = asyncio.create_task(taken(edge.cell("europe"), "worms.tool"))
        run = await edge.start(Settled.run, "hello", origin="frankfurt-w", residency="EU")
        first, _ = await run.result()
        await doomed
        assert first.region == "dublin-w"
        told = assignments(await history_of(edge, run.id))
        assert told[1].earlier[0].reason == "its worker fell silent"
        await replays(run.handle, Settled)


async def test_a_step_whose_endpoint_refuses_goes_to_the_next_place(
    edge: EdgeClient, broken: set[str]
) -> None:
    broken.add("dublin-w")
    run = await edge.start(Wanderer.run, "hello", origin="dublin-w")
    first, second = await run.result()
    assert (first.region, first.dispatch) == ("ashburn-w", "queue")
    assert second.region == "ashburn-w"
    assert wanderers.tried[first.key] == ["dublin-w", "ashburn-w"]
    assert assignments(await history_of(edge, run.id))[0].earlier[0].reason == "BackendUnreachableError"
    await replays(run.handle, Wanderer)


@pytest.mark.parametrize("agent", [European, Blocked])
async def test_a_step_never_leaves_its_residency(edge: EdgeClient, broken: set[str], agent: type) -> None:
    broken.update({"dublin-w"})
    run = await edge.start(agent.run, "hello", origin="dublin-w")  # type: ignore[attr-defined]  # one of two agents
    key = f"{run.run_id}/1"
    while len(wanderers.tried.get(key, [])) < 3:
        await asyncio.sleep(0.01)
    broken.clear()
    assert (await run.result()).region == "dublin-w"
    assert set(wanderers.tried[key]) == {"dublin-w"}


async def test_a_run_waits_for_a_place_to_come_back(edge: EdgeClient, broken: set[str]) -> None:
    broken.update({"dublin-w", "ashburn-w"})
    run = await edge.start(Wanderer.run, "hello", origin="dublin-w")
    key = f"{run.run_id}/1"
    while len(wanderers.tried.get(key, [])) < 3:
        await asyncio.sleep(0.01)
    broken.clear()
    first, _ = await run.result()
    assert first.key == key
    assert {"dublin-w", "ashburn-w"} <= set(wanderers.tried[key])
    await replays(run.handle, Wanderer)


async def test_a_run_fails_without_a_place_where_its_agent_says_so(
    edge: EdgeClient, broken: set[str]
) -> None:
    broken.update({"dublin-w", "ashburn-w"})
    run = await edge.start(Impatient.run, "hello", origin="dublin-w")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == "PlacementError"
    assert "step deliver has no place left" in error.message
    assert "dublin-w: BackendUnreachableError" in error.message
    assert "ashburn-w: BackendUnreachableError" in error.message


async def test_a_step_that_must_not_run_twice_is_placed_again_only_if_it_never_began(
    topology: Topology, workers: None
) -> None:
    known = with_absent(topology, "speyer")
    async with await EdgeClient.connect(known, application=application, watch=False) as edge:
        untaken = await edge.start(Charging.run, "1", origin="frankfurt-w", residency="EU")
        assert (await untaken.result()).region == "dublin-w"
    known = with_absent(topology, "trier")
    async with await EdgeClient.connect(known, application=application, watch=False) as edge:
        queue = asyncio.create_task(taken(edge.cell("europe"), "trier.tool"))
        lost = await edge.start(Charging.run, "1", origin="frankfurt-w", residency="EU")
        await queue
        [told] = assignments(await history_of(edge, lost.id))
        assert (told.place, told.heartbeat, told.elsewhere) == ("trier", False, False)
        await lost.handle.terminate()


async def test_an_ordinary_workflow_is_placed_again_within_its_own_deadline(
    edge: EdgeClient, broken: set[str]
) -> None:
    broken.add("dublin-w")
    run = await edge.start(Ordinary.run, "hello", origin="dublin-w")
    assert (await run.result()).region == "ashburn-w"
    broken.update({"dublin-w", "ashburn-w"})
    run = await edge.start(Ordinary.run, "hello", origin="dublin-w")
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    # two attempts, as its policy says
    assert innermost(failed.value).type == "BackendUnreachableError"
    assert len(wanderers.tried[f"{run.run_id}/1"]) == 2


@pytest.mark.parametrize("when", ["not begun", "running"])
async def test_a_cancelled_step_ends_wherever_it_is(topology: Topology, edge: EdgeClient, when: str) -> None:
    wanderers.started.clear()
    run = await edge.start(Cancelling.run, when, origin="frankfurt-w", residency="EU")
    if when == "running":
        await wanderers.started.wait()
        await run.handle.signal(Cancelling.cancel_it)
    ended = await run.result()
    assert ended in ("ActivityError", "CancelledError")
    await replays(run.handle, Cancelling)
