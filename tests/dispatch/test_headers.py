import json

import pytest
from temporalio.api.common.v1 import Payload

from orchestrator.dispatch.headers import (
    ASSIGNMENT_HEADER,
    PLAN_HEADER,
    Assignment,
    assignment_of,
    plan_of,
    with_assignment,
    with_plan,
    with_written_plan,
)
from orchestrator.dispatch.run_planner import RunPlanner
from orchestrator.dispatch.told_plans import ToldPlans
from orchestrator.dispatch.visibility.run_texts import summary_of
from orchestrator.errors import ConfigurationError
from orchestrator.requirements import Residency
from tests.dispatch.agents import application
from tests.dispatch.conftest import three_regions


def test_a_plan_travels_whole_and_small() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    planner = RunPlanner(topology, agents=application.agent_definitions, steps=application.step_definitions)
    plan = planner.plan("Choir", "Lisbon")
    headers = with_plan({"other": Payload(data=b"kept")}, plan)
    assert plan_of(headers) == plan
    assert headers["other"].data == b"kept"
    assert len(headers[PLAN_HEADER].data) < len(plan.model_dump_json()) / 5


def test_what_is_told_of_a_plan_is_written_once_and_is_its_own() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    planner = RunPlanner(topology, agents=application.agent_definitions, steps=application.step_definitions)
    told = ToldPlans()
    for origin in ("Lisbon", "Tokyo", "Lisbon"):
        plan = planner.plan("Choir", origin, limit=4)
        assert with_written_plan({}, told.of(plan).header) == with_plan({}, plan)
        assert told.of(plan).summary == summary_of(plan)
        assert told.of(plan) is told.of(plan)


def test_what_is_not_there_is_none() -> None:
    assert plan_of({}) is None
    assert assignment_of({}) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"\x78\x9c"])
def test_a_header_that_cannot_be_read_is_told(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match=f"header {PLAN_HEADER} cannot be read"):
        plan_of({PLAN_HEADER: Payload(data=data)})


def test_an_assignment_without_a_residency_is_refused() -> None:
    """Fails closed: a worker that cannot know where the data may be does not run the step."""
    headers = with_assignment({}, Assignment(sequence=1, root_workflow_id="w", residency=Residency.of("EU")))
    told = assignment_of(headers)
    assert told is not None
    assert told.residency == Residency.of("EU")
    unbound = json.loads(headers[ASSIGNMENT_HEADER].data)
    del unbound["residency"]
    headers[ASSIGNMENT_HEADER].data = json.dumps(unbound).encode()
    with pytest.raises(ConfigurationError, match="residency: Field required"):
        assignment_of(headers)
