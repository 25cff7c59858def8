"""Replays: places may change between the run and its replay, inline or queue may not."""

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, Worker

from orchestrator import EdgeClient, EdgewardPlugin, Needs
from orchestrator.dispatch import plan_of
from orchestrator.dispatch.headers import PLAN_HEADER, with_plan
from orchestrator.placement import Candidate, Plan, StepPlan
from orchestrator.topology import Cell, Topology
from tests.dispatch.agents import Choir, Tour, application
from tests.dispatch.conftest import three_regions
from tests.dispatch.plain import Plain, shout

NONDETERMINISM = "TMPRL1100"


async def history_of(edge: EdgeClient, workflow_id: str) -> WorkflowHistory:
    return await edge.cell("europe").get_workflow_handle(workflow_id).fetch_history()


def replayer(plugin: EdgewardPlugin | None, *workflows: type) -> Replayer:
    # the one reason to replay without the plugin is to show what it changes
    if plugin is None:
        return Replayer(
            workflows=workflows,
            data_converter=pydantic_data_converter,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
    return Replayer(workflows=workflows, plugins=[plugin])


def other_topology() -> Topology:
    """One region of another name in a cell of another name: nothing of the recorded one is left."""
    renamed = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    region = renamed.regions[2].model_copy(update={"name": "tokyo", "cell": "asia", "country": "JP"})
    return Topology(cells=(Cell(name="asia", region="tokyo", address="127.0.0.1:3"),), regions=(region,))


async def test_a_recorded_run_replays_under_another_topology(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    await run.result()
    history = await history_of(edge, run.id)
    assert "dublin.tool" in {
        event.activity_task_scheduled_event_attributes.task_queue.name for event in history.events
    }
    plugin = EdgewardPlugin(other_topology(), application=application)
    await replayer(plugin, Tour).replay_workflow(history)


async def test_a_run_with_sub_agents_replays_under_another_topology(edge: EdgeClient) -> None:
    run = await edge.start(Choir.run, "la", origin="frankfurt")
    await run.result()
    history = await history_of(edge, run.id)
    await replayer(EdgewardPlugin(other_topology(), application=application), Choir).replay_workflow(history)


async def test_a_run_that_answered_its_start_replays(edge: EdgeClient) -> None:
    run = edge.submit(Tour.run, "hello", origin="frankfurt")
    await run.result()
    history = await history_of(edge, run.id)
    assert any(
        event.HasField("workflow_execution_update_completed_event_attributes") for event in history.events
    )
    await replayer(EdgewardPlugin(other_topology(), application=application), Tour).replay_workflow(history)


async def test_the_places_of_a_recorded_plan_may_change(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    await run.result()
    history = await history_of(edge, run.id)

    def moved(candidate: Candidate) -> Candidate:
        return (
            candidate.model_copy(update={"region": "elsewhere"})
            if candidate.dispatch == "queue"
            else candidate
        )

    change_plan(history, moved)
    await replayer(EdgewardPlugin(other_topology()), Tour).replay_workflow(history)


async def test_inline_or_queue_is_fixed_by_the_plan_in_the_start(edge: EdgeClient) -> None:
    """The counter-test: only a changed header can change it, and replay notices."""
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    await run.result()
    history = await history_of(edge, run.id)
    change_plan(history, lambda candidate: candidate.model_copy(update={"dispatch": "queue"}))
    with pytest.raises(workflow.NondeterminismError, match=NONDETERMINISM):
        await replayer(EdgewardPlugin(other_topology()), Tour).replay_workflow(history)


async def test_a_planned_run_with_inline_steps_needs_the_plugin_to_replay(edge: EdgeClient) -> None:
    run = await edge.start(Tour.run, "hello", origin="frankfurt")
    await run.result()
    with pytest.raises(workflow.NondeterminismError, match=NONDETERMINISM):
        await replayer(None, Tour).replay_workflow(await history_of(edge, run.id))


async def test_a_run_recorded_without_the_plugin_replays_with_it(
    edge: EdgeClient, topology: Topology
) -> None:
    address = topology.cell("europe").address
    assert address is not None
    client = await Client.connect(address, namespace="europe", data_converter=pydantic_data_converter)
    async with Worker(client, task_queue="plain", workflows=[Plain], activities=[shout]):
        handle = await client.start_workflow(Plain.run, "hey", id="plain-recorded", task_queue="plain")
        assert await handle.result() == "HEY"
    history = await handle.fetch_history()
    assert PLAN_HEADER not in history.events[0].workflow_execution_started_event_attributes.header.fields
    plugin = EdgewardPlugin(topology, cell="europe", rules={"shout": Needs(tool="press")})
    await replayer(plugin, Plain).replay_workflow(history)


async def test_a_plain_application_is_placed_by_one_line_on_its_client(topology: Topology) -> None:
    """Its workflow says nothing of Edgeward; a rule sends the step to the only region that can do it."""
    address = topology.cell("europe").address
    assert address is not None
    rules = {"sh*": Needs(tool="press")}
    plugin = EdgewardPlugin(topology, rules=rules, home="frankfurt")
    client = await Client.connect(address, namespace="europe", plugins=[plugin])
    async with (
        Worker(client, task_queue="plain-placed", workflows=[Plain]),
        Worker(client, task_queue="dublin.tool", activities=[shout]),
    ):
        handle = await client.start_workflow(Plain.run, "hey", id="plain-placed", task_queue="plain-placed")
        assert await handle.result() == "HEY"
    history = await handle.fetch_history()
    scheduled = [
        event for event in history.events if event.HasField("activity_task_scheduled_event_attributes")
    ]
    (step,) = scheduled
    assert step.activity_task_scheduled_event_attributes.task_queue.name == "dublin.tool"
    assert step.user_metadata.summary.data.startswith(b'"shout \\u2192 dublin') or "shout → dublin" in (
        step.user_metadata.summary.data.decode()
    )
    # and the same history replays without the plugin: a queue is not compared
    await replayer(None, Plain).replay_workflow(history)


def change_plan(history: WorkflowHistory, change: object) -> None:
    """Rewrites the plan in the start header, as a defect would."""
    assert callable(change)
    header = history.events[0].workflow_execution_started_event_attributes.header
    plan = plan_of(header.fields)
    assert plan is not None
    steps = {name: changed(step, change) for name, step in plan.root.steps.items()}
    other: Plan = plan.model_copy(update={"root": plan.root.model_copy(update={"steps": steps})})
    header.fields[PLAN_HEADER].CopyFrom(with_plan({}, other)[PLAN_HEADER])


def changed(step: StepPlan, change: object) -> StepPlan:
    assert callable(change)
    return step.model_copy(update={"candidates": tuple(change(candidate) for candidate in step.candidates)})
