"""Runs can be found by agent, home, residency and places, and start where the server knows none of that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from temporalio.client import WithStartWorkflowOperation, WorkflowExecutionDescription
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
)
from temporalio.service import RPCError

from orchestrator import EdgeClient, EdgeRun, EdgewardPlugin
from orchestrator.dev.processes import free_ports
from orchestrator.dev.temporal_server import CellServer
from orchestrator.dispatch import starting
from orchestrator.dispatch.visibility import search_attributes
from orchestrator.dispatch.visibility.registration import register_attributes
from orchestrator.dispatch.visibility.search_attributes import AGENT, HOME, PLACES, RESIDENCY, TYPES
from orchestrator.queues import agents_queue
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Topology
from tests.dispatch.agents import Again, Choir, Patient, Returning, Tour, application
from tests.dispatch.conftest import namespace
from tests.dispatch.test_replay import other_topology, replayer

CITY = SearchAttributeKey.for_keyword("City")


@pytest.fixture(scope="session")
async def bare(topology: Topology, unregistered: CellServer) -> AsyncIterator[Topology]:
    """One region with a worker, in the cell that knows none of the attributes."""
    cell = Cell(name="bare", region="dublin", address=unregistered.address, namespace="bare")
    [control] = free_ports(1)
    dublin = topology.region("dublin").model_copy(
        update={"cell": "bare", "control": f"http://127.0.0.1:{control}"}
    )
    one = Topology(cells=(cell,), regions=(dublin,))
    worker = RegionWorker(one, "dublin", application, warm_up=False)
    serving = asyncio.create_task(worker.serve())
    yield one
    worker.stop()
    await serving


async def described(run: EdgeRun[object]) -> WorkflowExecutionDescription:
    return await run.handle.describe()


def attributes(description: WorkflowExecutionDescription) -> dict[str, object]:
    found = description.typed_search_attributes
    return {key.name: found[key] for key in (AGENT, HOME, RESIDENCY, PLACES) if key in found}


@pytest.mark.parametrize("submitted", [False, True])
async def test_a_run_carries_what_it_can_be_found_by(edge: EdgeClient, submitted: bool) -> None:
    if submitted:
        run = edge.submit(Tour.run, "hello", origin="frankfurt", residency="EU")
    else:
        run = await edge.start(Tour.run, "hello", origin="frankfurt", residency="EU")
    await run.result()
    assert attributes(await described(run)) == {
        "EdgewardAgent": "Tour",
        "EdgewardHome": "frankfurt",
        "EdgewardResidency": "EU",
        "EdgewardPlaces": ["dublin", "frankfurt"],
    }


async def test_the_server_finds_runs_by_them(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt", id="tour-to-be-found")
    await run.result()
    query = (
        'EdgewardAgent = "Tour" AND EdgewardHome = "frankfurt" AND EdgewardPlaces = "dublin" '
        'AND EdgewardResidency = "anywhere" AND ExecutionDuration < "60s"'
    )
    async with asyncio.timeout(30):  # the index follows the history
        while run.id not in {found.id async for found in edge.cell("europe").list_workflows(query)}:
            await asyncio.sleep(0.05)


@pytest.mark.filterwarnings("ignore:Dictionary-based search attributes:DeprecationWarning")
async def test_an_authors_own_attributes_stay(edge: EdgeClient, topology: Topology) -> None:
    cell = edge.cell("europe")
    plan = edge.plan(Returning, origin="frankfurt")
    own = TypedSearchAttributes([SearchAttributePair(HOME, "home of the author")])
    with starting(plan):
        typed = await cell.start_workflow(
            Returning.run, 3, id="authored", task_queue=agents_queue(plan.home), search_attributes=own
        )
        untyped = await cell.start_workflow(
            Returning.run,
            3,
            id="authored-untyped",
            task_queue=agents_queue(plan.home),
            search_attributes={"EdgewardHome": ["home of the author"]},
        )
    for handle in (typed, untyped):
        found = attributes(await handle.describe())
        assert found["EdgewardHome"] == "home of the author"
        assert found["EdgewardAgent"] == "Returning"


async def test_sub_agents_carry_their_own(edge: EdgeClient) -> None:
    run = await edge.start(Choir.run, "la", origin="frankfurt")
    await run.result()
    cell = edge.cell("europe")
    found = {
        started.workflow_type.name: await cell.get_workflow_handle(
            started.workflow_execution.workflow_id
        ).describe()
        async for event in run.handle.fetch_history_events()
        if event.HasField("child_workflow_execution_started_event_attributes")
        for started in [event.child_workflow_execution_started_event_attributes]
    }
    printer = attributes(found["Printer"])
    assert printer["EdgewardAgent"] == "Printer"
    assert printer["EdgewardHome"] == run.plan.root.handoffs["Printer"].home
    assert attributes(found["Voice"])["EdgewardPlaces"] == ["frankfurt"]
    assert attributes(await described(run))["EdgewardPlaces"] == ["dublin", "frankfurt"]
    assert "`press` → **dublin**" in (await found["Printer"].static_details() or "")
    assert (await found["Printer"].static_summary() or "").startswith("Printer → ")


@pytest.mark.parametrize("with_them", [True, False])
async def test_a_history_replays_whether_or_not_it_was_recorded_with_them(
    edge: EdgeClient, with_them: bool
) -> None:
    """A sub-agent's start is compared by id and type; what the run itself carries is in its first event."""
    run = await edge.start(Choir.run, "la", origin="frankfurt")
    await run.result()
    history = await run.handle.fetch_history()
    started = history.events[0].workflow_execution_started_event_attributes
    sub_agents = [
        event.start_child_workflow_execution_initiated_event_attributes
        for event in history.events
        if event.HasField("start_child_workflow_execution_initiated_event_attributes")
    ]
    assert "EdgewardAgent" in started.search_attributes.indexed_fields
    if with_them:  # as an earlier version would have recorded it, which gave sub-agents none
        for sub_agent in sub_agents:
            sub_agent.ClearField("search_attributes")
    else:
        started.ClearField("search_attributes")
    await replayer(EdgewardPlugin(other_topology(), application=application), Choir).replay_workflow(history)


async def test_runs_that_go_on_as_new_keep_them(edge: EdgeClient) -> None:
    run = await edge.start(Again.run, 1, origin="frankfurt")
    await run.result()
    latest = await edge.cell("europe").get_workflow_handle(run.id).describe()
    assert latest.run_id != run.run_id
    assert attributes(latest)["EdgewardAgent"] == "Again"


async def test_a_server_that_knows_none_of_them_starts_runs_all_the_same(bare: Topology) -> None:
    async with await EdgeClient.connect(bare, application=application, watch=False) as client:
        with capture_logs() as logs:
            run = await client.start(Tour.run, "hello", origin="dublin")
            assert len(await run.result()) == 3
            assert len(await client.execute(Tour.run, "hello", origin="dublin")) == 3
        [line] = [line for line in logs if line["event"] == "search_attributes.refused"]
        assert line["remedy"] == "edgeward setup"
        description = await described(run)
        assert attributes(description) == {}
        assert "residency anywhere" in (await description.static_summary() or "")


async def test_so_it_is_where_start_and_answer_are_one_request(bare: Topology) -> None:
    async with await EdgeClient.connect(bare, application=application, watch=False) as client:
        assert await client.execute(Returning.run, 3, origin="dublin") == "xxx"


async def test_a_sub_agent_of_a_run_without_them_has_none(bare: Topology) -> None:
    async with await EdgeClient.connect(bare, application=application, watch=False) as client:
        # a command with an attribute that the server does not know would be tried again for ever
        assert len(await client.execute(Choir.run, "la", origin="dublin")) == 4


async def test_what_is_refused_for_another_reason_is_raised(bare: Topology) -> None:
    async with await EdgeClient.connect(bare, application=application, watch=False) as client:
        plan = client.plan(Returning, origin="dublin")
        own = TypedSearchAttributes([SearchAttributePair(CITY, "Cork")])
        with starting(plan), pytest.raises(RPCError, match="City"):
            await client.cell("bare").start_workflow(
                Returning.run, 3, id="city", task_queue=agents_queue(plan.home), search_attributes=own
            )
        operation = WithStartWorkflowOperation(
            Patient.run,
            id="city-2",
            task_queue=agents_queue(plan.home),
            search_attributes=own,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        with starting(plan), pytest.raises(RPCError, match="City"):
            await client.cell("bare").execute_update_with_start_workflow(
                Patient.begun, start_workflow_operation=operation
            )
        with pytest.raises(RPCError, match="City"):
            await operation.workflow_handle()


async def test_what_was_registered_meanwhile_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, bare: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace of its own on the same server, so that the other tests keep theirs."""
    cell = bare.cells[0].model_copy(update={"namespace": "later"})
    topology = bare.model_copy(update={"cells": (cell,)})
    assert cell.address is not None
    await namespace(cell.address, "later")
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        first = await client.start(Returning.run, 1, origin="dublin")
        assert attributes(await described(first)) == {}
        registration = await register_attributes(client.cell("bare"))
        assert registration.added == tuple(TYPES)
        second = await client.start(Returning.run, 1, origin="dublin")
        assert attributes(await described(second)) == {}
        monkeypatch.setattr(search_attributes, "AGAIN_AFTER", timedelta(0))
        third = await client.start(Returning.run, 1, origin="dublin")
        assert attributes(await described(third))["EdgewardHome"] == "dublin"
        again = await register_attributes(client.cell("bare"))
        assert (again.added, again.present) == ((), tuple(TYPES))
