"""What ``@agent`` and ``@step`` attach, and what they refuse."""

from datetime import timedelta

import pytest
import temporalio.activity
import temporalio.workflow
from temporalio import activity, workflow

from orchestrator import Application, Needs, agent, call, step
from orchestrator.agents import agent_definition, step_definition
from orchestrator.application import load_application
from orchestrator.errors import ConfigurationError
from orchestrator.placement import RunTime
from orchestrator.requirements import Residency


@step(needs=Needs(model="chat", collection="handbook"), residency="EU", expected=timedelta(milliseconds=20))
async def find(question: str, k: int = 3) -> list[str]:
    return [question] * k


@step()
def add(first: int, second: int) -> int:
    return first + second


@agent(steps={find: 2})
class Finder:
    @workflow.run
    async def run(self, question: str) -> list[str]:
        return await call(find, question)


@agent(name="boss", handoffs={Finder: 3}, residency=["EU", "CH"])
class Boss:
    @workflow.run
    async def run(self) -> None: ...


@agent()
class Anything:
    @workflow.run
    async def run(self) -> None: ...


def test_a_step_stays_the_function_and_a_plain_activity() -> None:
    assert find.__name__ == "find"
    definition = step_definition(find)
    assert definition is not None
    assert (definition.name, definition.kind) == ("find", "vector")
    assert definition.requirements.residency == Residency.of("EU")
    assert definition.prior == RunTime(20, 60)
    assert temporalio.activity._Definition.must_from_callable(find).name == "find"


async def test_outside_a_workflow_call_awaits_the_function() -> None:
    assert await call(find, "why", k=2) == ["why", "why"]
    assert await call(add, 2, second=3) == 5


def test_an_agent_stays_the_class_and_a_plain_workflow() -> None:
    definition = agent_definition(Finder)
    assert definition is agent_definition(Finder.run)
    assert definition is not None
    assert temporalio.workflow._Definition.must_from_class(Finder).name == definition.name == "Finder"
    profile = definition.profile([step for step in (step_definition(add),) if step])
    assert [(known.name, known.expected_calls) for known in profile.steps] == [("find", 2.0), ("add", 0.0)]


def test_a_subclass_is_no_agent_of_its_own() -> None:
    class Quiet(Finder):
        pass

    assert agent_definition(Quiet) is None


def test_handoffs_and_residency_reach_the_profile() -> None:
    definition = agent_definition(Boss)
    assert definition is not None
    profile = definition.profile()
    (below,) = profile.handoffs
    assert (profile.name, below.agent.name, below.expected_calls) == ("boss", "Finder", 3.0)
    assert str(profile.requirements.residency) == "CH or EU"


def test_an_agent_without_steps_counts_each_step_of_the_application_once() -> None:
    definition = agent_definition(Anything)
    known = step_definition(add)
    assert definition is not None
    assert known is not None
    assert [one.expected_calls for one in definition.profile([known]).steps] == [1.0]


def test_an_activity_that_is_declared_already_keeps_its_name() -> None:
    @step(kind="code")
    @activity.defn(name="legacy-name")
    async def renamed() -> None: ...

    definition = step_definition(renamed)
    assert definition is not None
    assert definition.name == "legacy-name"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"repeatable": False, "dispatch": "inline"}, "cannot be inline"),
        ({"timeout": timedelta(0)}, "timeout is positive"),
        ({"kind": "agents"}, "names the queues of workflows"),
        ({"kind": "My Kind"}, "is no kind of step"),
        ({"residency": ""}, "names no jurisdiction"),
        ({"expected": timedelta(0)}, "expected time cannot be used"),
    ],
)
def test_a_contradiction_is_told_where_it_is_written(options: dict, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):

        @step(**options)
        async def anything() -> None: ...


def test_what_an_agent_counts_has_to_be_declared() -> None:
    async def plain() -> None: ...

    with pytest.raises(ConfigurationError, match=r"counts .*plain as a step; decorate it with @step"):
        agent(steps={plain: 1})(Finder)
    with pytest.raises(ConfigurationError, match="expects find -1 times"):
        agent(steps={find: -1})(Finder)
    with pytest.raises(ConfigurationError, match=r"hands off to .*int; decorate it with @agent"):
        agent(handoffs={int: 1})(Finder)
    assert agent_definition(Finder) is not None


def test_an_application_is_checked_where_it_is_made() -> None:
    application = Application(agents=[Finder, Boss], steps=[find, add])
    assert application.agent("BOSS") is Boss
    with pytest.raises(ConfigurationError, match="unknown agent 'x'; the application has: Finder, boss"):
        application.agent("x")
    with pytest.raises(ConfigurationError, match=r"dict is listed as an agent"):
        Application(agents=[dict])
    with pytest.raises(ConfigurationError, match=r"len is listed as a step"):
        Application(steps=[len])

    @step(kind="code")
    @activity.defn(name="find")
    async def another() -> None: ...

    with pytest.raises(ConfigurationError, match="two steps named find"):
        Application(steps=[find, another])


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("tests.dispatch.agents", "write module:attribute"),
        ("tests.dispatch.agents:", "write module:attribute"),
        ("nowhere_at_all:app", "there is no module nowhere_at_all"),
        ("tests.dispatch.agents:nothing", "has no nothing"),
        ("tests.dispatch.agents:Tour", "make it an orchestrator.Application"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(reference: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        load_application(reference)


def test_a_reference_finds_its_application() -> None:
    assert load_application("tests.dispatch.agents:application").agent("tour").__name__ == "Tour"
