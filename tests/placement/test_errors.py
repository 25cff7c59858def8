"""Runs that cannot be placed name the rule that emptied the set; runs that can are kept where they are."""

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import PlacementError
from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import AgentProfile, Handoff, RegionReading, RunTime, Snapshot, StepProfile, plan
from orchestrator.placement.profile import DispatchChoice
from orchestrator.requirements import Needs, Objective, Requirements, requirements
from orchestrator.topology import Cell, Link, Offer, Region, Topology

CHAT = Offer(kind="model", name="chat", endpoint="http://localhost/v1")
LISBON = Origin(label="Lisbon, PT", coordinates=Coordinates(38.7, -9.1))


def region(name: str, country: str, cell: str, *offers: Offer, serves: tuple[str, ...] = ()) -> Region:
    place = {"DE": Coordinates(50.1, 8.7), "US": Coordinates(39.0, -77.5), "CH": Coordinates(47.4, 8.5)}
    return Region(
        name=name, coordinates=place[country], country=country, cell=cell, offers=offers, serves=serves
    )


def topology(*regions: Region, links: tuple[Link, ...] = ()) -> Topology:
    cells = {each.cell: each.name for each in reversed(regions)}
    return Topology(
        cells=tuple(Cell(name=cell, region=name, address="h:1") for cell, name in cells.items()),
        regions=regions,
        links=links,
    )


US = frozenset({"us"})
WORLD = topology(region("fra", "DE", "eu"), region("zrh", "CH", "eu"), region("iad", "US", "us", CHAT))


def answering(dispatch: DispatchChoice = "auto", calls: float = 1.0) -> AgentProfile:
    step = StepProfile("answer", "model", requirements(needs=Needs(model="chat")), calls, dispatch=dispatch)
    return AgentProfile("research", (step,))


def states(**state: str) -> Snapshot:
    return Snapshot(regions={name: RegionReading(state=value) for name, value in state.items()})


@pytest.mark.parametrize(
    ("agent", "level", "snapshot", "step", "rule"),
    [
        (answering(), requirements(residency="EU"), Snapshot(), "answer", "needs"),
        (answering(), requirements(residency="JP"), Snapshot(), "answer", "residency"),
        (answering(), requirements(needs=Needs(tool="rates")), Snapshot(), "answer", "needs"),
        (answering(), requirements(), states(iad="down"), "answer", "down"),
        (answering(), requirements(), states(iad="draining"), "answer", "draining"),
        (AgentProfile("idle"), requirements(residency="JP"), Snapshot(), "idle", "residency"),
        (AgentProfile("idle"), requirements(residency="CH"), Snapshot(), "idle", "residency"),
        (AgentProfile("idle"), requirements(residency="DE"), states(fra="down"), "idle", "down"),
        (AgentProfile("idle"), requirements(residency="US"), Snapshot(cells_down=US), "idle", "cell down"),
        (
            AgentProfile("idle"),
            requirements(objective=Objective(timedelta(milliseconds=1))),
            Snapshot(),
            "idle",
            "latency bound",
        ),
        (
            AgentProfile("root", handoffs=(Handoff(answering()),)),
            requirements(residency="EU"),
            Snapshot(),
            "answer",
            "needs",
        ),
        (
            AgentProfile(
                "root", handoffs=(Handoff(AgentProfile("swiss", requirements=requirements(residency="CH"))),)
            ),
            requirements(),
            Snapshot(),
            "swiss",
            "residency",
        ),
    ],
)
def test_the_rule_that_emptied_the_set_is_named(
    agent: AgentProfile, level: Requirements, snapshot: Snapshot, step: str, rule: str
) -> None:
    with pytest.raises(PlacementError) as caught:
        plan(agent, LISBON, WORLD, snapshot, requirements=level)
    assert (caught.value.step, caught.value.rule) == (step, rule)
    assert f"because of the rule {rule!r}" in str(caught.value)
    assert caught.value.excluded.keys() == {"fra", "zrh", "iad"}


def test_places_that_do_not_serve_the_cell() -> None:
    apart = topology(region("fra", "DE", "eu"), region("iad", "US", "us", CHAT, serves=("us",)))
    assert plan(answering(), LISBON, apart).home == "iad"
    with pytest.raises(PlacementError, match="step answer has no place that serves cell eu") as caught:
        plan(answering(), LISBON, apart, homes=["fra"])
    assert (caught.value.step, caught.value.rule) == ("answer", "cell")


def test_no_run_starts_in_a_cell_that_is_down() -> None:
    kept = plan(answering(), LISBON, WORLD, Snapshot(cells_down=US))
    assert kept.cell == "eu"
    assert kept.root.steps["answer"].chosen.region == "iad", "its workers do the steps of other cells"
    assert kept.excluded_homes["iad"].rule == "cell down"


def test_inline_steps_have_to_find_everything_at_home() -> None:
    assert plan(answering("inline"), LISBON, WORLD).home == "iad"
    with pytest.raises(PlacementError, match="runs inline, so at home") as caught:
        plan(answering("inline"), LISBON, WORLD, homes=["fra", "zrh"])
    assert (caught.value.step, caught.value.rule) == ("answer", "inline")


def test_homes_that_do_not_exist() -> None:
    with pytest.raises(PlacementError) as caught:
        plan(answering(), LISBON, WORLD, homes=["atlantis"])
    assert caught.value.rule == "homes"


def test_a_step_that_is_not_expected_may_have_no_place() -> None:
    planned = plan(answering(calls=0), LISBON, WORLD, requirements=requirements(residency="EU"))
    answer = planned.root.steps["answer"]
    assert answer.candidates == ()
    assert {name: exclusion.rule for name, exclusion in answer.excluded.items()} == {
        "fra": "needs",
        "zrh": "residency",
        "iad": "residency",
    }


def test_an_agent_that_hands_off_to_itself_is_refused() -> None:
    loop = AgentProfile("a", handoffs=(Handoff(AgentProfile("b", handoffs=(Handoff(AgentProfile("a")),))),))
    with pytest.raises(PlacementError, match="a → b → a"):
        plan(loop, LISBON, WORLD)


def test_the_usual_home_is_kept_while_another_is_hardly_better() -> None:
    agent = AgentProfile("idle")
    origin = Origin(label="x", coordinates=LISBON.coordinates, region="fra")
    pair = (region("fra", "DE", "a"), region("zrh", "CH", "b"))
    for rtt_ms, home in ((1.0, "zrh"), (40.0, "fra")):
        near = topology(*pair, links=(Link(source="fra", target="zrh", rtt_ms=rtt_ms),))
        assert plan(agent, origin, near).home == "fra"
        assert plan(agent, origin, near, usual_home="zrh").home == home
    down = states(zrh="down")
    assert plan(agent, origin, topology(*pair), down, usual_home="zrh").home == "fra"


def test_a_limit_shortens_the_receipt_as_compact_does() -> None:
    agent = replace(answering(), handoffs=(Handoff(AgentProfile("below", answering().steps)),))
    whole = plan(agent, LISBON, WORLD)
    assert plan(agent, LISBON, WORLD, limit=1) == whole.compact(1)
    assert len(whole.homes) == 3


def test_a_link_serves_both_ways_and_a_probe_beats_it() -> None:
    agent, home = AgentProfile("idle"), Origin(label="x", coordinates=LISBON.coordinates, region="iad")
    linked = topology(*WORLD.regions, links=(Link(source="fra", target="iad", rtt_ms=90.0),))
    start_ms = 20 + 2 * 90 + 0.6
    planned = plan(agent, home, linked, homes=["fra"])
    assert planned.latency_ms == pytest.approx(start_ms)
    for pair in (("iad", "fra"), ("fra", "iad")):
        probed = plan(agent, home, linked, Snapshot(rtt_ms={pair: 50.0}), homes=["fra"])
        assert probed.latency_ms == pytest.approx(start_ms - 80)


def test_a_bound_counts_how_often_a_sub_agent_of_a_sub_agent_runs() -> None:
    """It takes more than twice the bound, and runs in one of four runs."""
    slow = AgentProfile("slow", (StepProfile("answer", "tool", prior=RunTime(700, 700)),))
    middle = AgentProfile("middle", handoffs=(Handoff(slow, 0.5),))
    agent = AgentProfile("root", handoffs=(Handoff(middle, 0.5),))
    origin = Origin(label="fra", coordinates=WORLD.regions[0].coordinates, region="fra")
    bound = Objective(timedelta(milliseconds=300))
    planned = plan(agent, origin, topology(WORLD.regions[0]), requirements=requirements(objective=bound))
    assert 175 < planned.latency_ms < 300
