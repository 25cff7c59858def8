"""What the UI shows of a plan: short, whatever the plan."""

from orchestrator.dispatch import RunPlanner
from orchestrator.dispatch.visibility.run_texts import (
    DETAILS_BYTES,
    details_of,
    sub_agent_summary,
    summary_of,
)
from orchestrator.dispatch.visibility.search_attributes import PLACES_BYTES, attributes_of, places_of
from orchestrator.placement import Exclusion, Plan, StepPlan
from orchestrator.requirements import Residency, requirements
from tests.dispatch.agents import application
from tests.dispatch.conftest import three_regions

SUMMARY_LIMIT_BYTES = 400
"""Temporal's ``limit.userMetadataSummarySize``."""


def planned(agent: str, residency: str | None = None) -> Plan:
    planner = RunPlanner(
        three_regions("127.0.0.1:1", "127.0.0.1:2", {}),
        agents=application.agent_definitions,
        steps=application.step_definitions,
    )
    return planner.plan(agent, "frankfurt", narrowed=requirements(residency=residency))


def with_steps(plan: Plan, count: int, region: str = "frankfurt-{}") -> Plan:
    step = plan.root.steps["press"]

    def numbered(number: int) -> StepPlan:
        chosen = step.chosen.model_copy(update={"region": region.format(number)})
        return step.model_copy(update={"step": f"step-{number}", "candidates": (chosen,)})

    steps = {f"step-{number}": numbered(number) for number in range(count)}
    return plan.model_copy(update={"root": plan.root.model_copy(update={"steps": steps})})


def test_details_tell_home_places_and_what_was_excluded() -> None:
    lines = details_of(planned("Tour", residency="EU")).splitlines()
    assert lines[0] == "- **home frankfurt** · cell europe · residency EU · user in frankfurt"
    assert lines[1].startswith("- predicted **")
    assert " · from dublin " in lines[1]
    assert lines[2] == "- excluded: ashburn (residency)"
    [press] = [line for line in lines if line.startswith("- `press`")]
    assert press.startswith("- `press` → **dublin** · queue · ")
    assert press.endswith(" · excluded: frankfurt (needs)"), "that of ashburn is told once"
    assert not any("`echo`" in line for line in lines), "it is not expected to be called"


def test_sub_agents_have_a_line() -> None:
    plan = planned("Choir")
    assert f"- sub-agent `Printer` → **{plan.root.handoffs['Printer'].home}**" in details_of(plan)
    assert sub_agent_summary(plan.root.handoffs["Printer"]).startswith("Printer → ")


def test_details_of_many_steps_are_cut_with_a_note() -> None:
    text = details_of(with_steps(planned("Tour"), 500))
    assert len(text.encode()) < DETAILS_BYTES + 100
    last = text.splitlines()[-1]
    assert last.startswith("- … 4")
    assert "edgeward trace" in last


def test_many_excluded_regions_are_counted() -> None:
    plan = planned("Tour")
    excluded = {f"region-{number}": Exclusion(rule="down", reason="no answer") for number in range(9)}
    plan = plan.model_copy(update={"excluded_homes": excluded})
    assert "- excluded: region-0, region-1, region-2, region-3 and 5 more (down)" in details_of(plan)


def test_a_summary_stays_below_what_the_server_takes() -> None:
    plan = planned("Tour", residency="EU")
    assert summary_of(plan).startswith("home frankfurt · ")
    long = Residency.of(",".join(f"J{number}" for number in range(200)))
    text = summary_of(plan.model_copy(update={"residency": long}))
    assert text.endswith("…")
    assert len(text.encode()) < SUMMARY_LIMIT_BYTES


def test_places_stay_below_what_the_server_takes() -> None:
    plan = with_steps(planned("Tour"), 500, region="a-region-with-a-long-name-{}")
    assert len(places_of(plan.root)) == 500
    [places] = [pair.value for pair in attributes_of(plan) if pair.key.name == "EdgewardPlaces"]
    assert 0 < sum(len(name) for name in places) < PLACES_BYTES
