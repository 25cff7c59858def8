"""Plans follow the readings, and nothing that is kept between them is seen in one."""

from datetime import UTC, datetime

from orchestrator.dispatch.run_planner import RunPlanner
from orchestrator.placement import RegionReading, Snapshot
from orchestrator.requirements import requirements
from tests.dispatch.agents import application
from tests.dispatch.conftest import three_regions


class Readings:
    """What a fleet would say."""

    def __init__(self) -> None:
        self.latest = Snapshot()

    def __call__(self) -> Snapshot:
        return self.latest


def test_a_plan_follows_the_readings_and_the_usual_home_does_not_hold_it() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    readings = Readings()
    planner = RunPlanner(
        topology,
        agents=application.agent_definitions,
        steps=application.step_definitions,
        snapshot=readings,
    )
    before = planner.plan("Choir", "Lisbon")
    assert planner.plan("Choir", "Lisbon") == before
    readings.latest = Snapshot(datetime.now(UTC), {before.home: RegionReading(state="down")})
    after = planner.plan("Choir", "Lisbon")
    assert after.home != before.home
    assert after.excluded_homes[before.home].rule == "down"
    readings.latest = Snapshot()
    assert planner.plan("Choir", "Lisbon", narrowed=requirements(objective=None)).home in (
        before.home,
        after.home,
    )


def test_without_readings_one_planner_serves_all_plans() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    planner = RunPlanner(topology, agents=application.agent_definitions, steps=application.step_definitions)
    first, second = planner.plan("Choir", "Lisbon"), planner.plan("Choir", "lisbon")
    assert first.root is second.root


def test_where_steps_are_queued_nothing_that_was_kept_for_inline_ones_is_used() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    planner = RunPlanner(topology, agents=application.agent_definitions, steps=application.step_definitions)
    for _ in range(2):
        free, queued = planner.plan("Choir", "Lisbon"), planner.plan("Choir", "Lisbon", inline=False)
        assert {plan.chosen.dispatch for plan in queued.root.steps.values() if plan.candidates} == {"queue"}
        assert "inline" in {plan.chosen.dispatch for plan in free.root.steps.values() if plan.candidates}


def test_who_asks_for_the_same_again_gets_the_same_plan_until_the_readings_change() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    readings = Readings()
    planner = RunPlanner(
        topology,
        agents=application.agent_definitions,
        steps=application.step_definitions,
        snapshot=readings,
    )
    planner.plan("Choir", "Lisbon", limit=4)  # the first one has no usual home
    kept = planner.plan("Choir", "Lisbon", limit=4)
    assert planner.plan("Choir", "Lisbon", limit=4) is kept
    others = (
        planner.plan("Choir", "Tokyo", limit=4),
        planner.plan("Choir", "Lisbon", limit=4, round_trips=1),
        planner.plan("Choir", "Lisbon", limit=4, homes=["dublin"]),
        planner.plan("Choir", "Lisbon", limit=4, inline=False),
        planner.plan("Choir", "Lisbon", limit=4, narrowed=requirements(residency="EU")),
        planner.plan("Choir", "Lisbon"),
    )
    assert all(other is not kept for other in others)
    readings.latest = Snapshot(datetime.now(UTC), {kept.home: RegionReading(state="down")})
    assert planner.plan("Choir", "Lisbon", limit=4).home != kept.home
