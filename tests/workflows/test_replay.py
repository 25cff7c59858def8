"""Histories of the agents that ship replay: today's under other topologies, stored ones with today's code.

``EDGEWARD_RECORD=1 make test ARGS=tests/workflows/test_replay.py`` stores new histories, after a
change of an agent that is meant to break old ones.
"""

import json
import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from orchestrator import EdgeClient, EdgewardPlugin
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Region, Topology
from workflows import app
from workflows.panel import Inquiry, Panel
from workflows.personalise import Personalise, Visit
from workflows.react import React, Task
from workflows.research import Question, Research

pytestmark = pytest.mark.timeout(600)

HISTORIES = Path(__file__).parent / "histories"
RECORDING = os.environ.get("EDGEWARD_RECORD") == "1"

RUNS: dict[str, tuple[type, BaseModel, str]] = {
    "research": (Research, Question(question="What is the home of a run?"), "Lisbon"),
    "react": (React, Task(task="How many people live in Singapore?"), "Frankfurt"),
    "panel": (Panel, Inquiry(question="How many people live in Singapore?"), "Lisbon"),
    "personalise": (Personalise, Visit(customer="c-104"), "Singapore"),
}
EXPERTS = ("librarian", "statistician", "surveyor")
"""Sub-agents of the panel."""

STORED = [*RUNS, *EXPERTS]


def elsewhere() -> Topology:
    """One region of another name in a cell of another name, which offers nothing."""
    return Topology(
        cells=(Cell(name="africa", region="cape-town", address="127.0.0.1:1"),),
        regions=(
            Region(name="cape-town", coordinates=Coordinates(-33.9, 18.4), country="ZA", cell="africa"),
        ),
    )


def replayer(topology: Topology) -> Replayer:
    return Replayer(workflows=app.agents, plugins=[EdgewardPlugin(topology, application=app)])


def stored(name: str) -> WorkflowHistory:
    text = (HISTORIES / f"{name}.json").read_text(encoding="utf-8")
    return WorkflowHistory.from_json(f"{name}-stored", text)


def store(name: str, history: WorkflowHistory) -> None:
    """Without the name of the machine that it ran on."""
    HISTORIES.mkdir(exist_ok=True)
    text = re.sub(r'"identity":\s*"\d+@[^"]*"', '"identity": "client"', history.to_json())
    (HISTORIES / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
async def test_a_run_replays_under_another_topology(edge: EdgeClient, name: str):
    agent, argument, origin = RUNS[name]
    run = await edge.start(agent.run, argument, origin=origin)
    await run.result()
    history = await run.handle.fetch_history()
    if RECORDING:
        store(name, history)
        for below in (event.child_workflow_execution_started_event_attributes for event in history.events):
            if below.workflow_type.name in EXPERTS:
                handle = edge.cell(run.plan.cell).get_workflow_handle(below.workflow_execution.workflow_id)
                store(below.workflow_type.name, await handle.fetch_history())
    await replayer(elsewhere()).replay_workflow(history)
    await replayer(edge.topology).replay_workflow(history)


@pytest.mark.parametrize("name", STORED)
async def test_a_stored_history_replays_with_the_code_of_today(name: str):
    await replayer(elsewhere()).replay_workflow(stored(name))


async def test_a_history_that_does_not_fit_the_code_is_noticed():
    """The counter-test: with its last step taken out, a history is not one of this agent."""
    history = json.loads((HISTORIES / "personalise.json").read_text(encoding="utf-8"))
    for event in history["events"]:
        kind = event.get("activityTaskScheduledEventAttributes")
        if kind is not None:
            kind["activityType"]["name"] = "something-else"
    with pytest.raises(workflow.NondeterminismError):
        await replayer(elsewhere()).replay_workflow(WorkflowHistory.from_json("personalise-changed", history))


def test_what_is_stored_is_what_is_replayed():
    assert {file.stem for file in HISTORIES.glob("*.json")} == set(STORED)


def test_each_agent_that_ships_has_a_stored_history():
    began = {
        stored(name).events[0].workflow_execution_started_event_attributes.workflow_type.name
        for name in STORED
    }
    assert began == set(app.agent_definitions)
