"""A planner that is asked again and again gives the plans that each request alone would get."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import PlacementError
from orchestrator.geography import Coordinates, Origin, estimated_rtt_ms, great_circle_km
from orchestrator.placement import (
    AgentProfile,
    Plan,
    Planner,
    RegionReading,
    Snapshot,
    StepProfile,
    homes,
    plan,
    planner,
    prepared,
    receipt,
)
from orchestrator.placement.network import Network, direction, estimated_rtts_ms
from orchestrator.requirements import Objective, Requirements, requirements
from orchestrator.topology import Cell, Region, Topology
from tests.placement.generated import (
    agents,
    names,
    objectives,
    origins,
    points,
    residencies,
    snapshots,
    topologies,
    unruled,
)

MANY = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

run_levels = st.builds(Requirements, residency=residencies, objective=objectives)
trees = agents()
asked_homes = st.none() | st.sets(names, min_size=1)
usual_homes = st.none() | names
limits = st.sampled_from([None, 1, 2, 16])
requests = st.integers(2, 5)
mostly = st.sampled_from([True, True, False])


def outcome(ask: Callable[..., Plan], *arguments: object, **options: object) -> object:
    """The plan, or all that the error says."""
    try:
        return ask(*arguments, **options)
    except PlacementError as error:
        return str(error), error.step, error.rule, error.excluded


@MANY
@given(st.data())
def test_a_planner_gives_the_plans_of_fresh_ones(data: st.DataObject) -> None:
    topology, snapshot = data.draw(topologies()), data.draw(snapshots)
    here = origins(topology)
    first, second = data.draw(trees), data.draw(trees)
    if data.draw(mostly):
        first, second = unruled(first), unruled(second)
    levels = [data.draw(run_levels), data.draw(run_levels)]
    patient = Planner(topology, snapshot)
    for _ in range(data.draw(requests)):
        agent = data.draw(st.sampled_from([first, second]))
        origin = data.draw(here)
        options = {
            "requirements": data.draw(st.sampled_from(levels)),
            "homes": data.draw(asked_homes),
            "usual_home": data.draw(usual_homes),
            "limit": data.draw(limits),
        }
        with patch.object(homes, "HOMES_IN_RECEIPT", 2), patch.object(prepared, "OPTIONS_KEPT", 2):
            kept = outcome(patient.plan, agent, origin, **options)
            assert kept == outcome(plan, agent, origin, topology, snapshot, **options)


@MANY
@given(points, st.lists(points, min_size=1, max_size=5))
def test_chords_say_what_the_haversine_says(origin: Coordinates, targets: list[Coordinates]) -> None:
    opposite = Coordinates(-origin.latitude, origin.longitude - (180 if origin.longitude > 0 else -180))
    targets = [*targets, origin, opposite, origin._replace(latitude=origin.latitude + 1e-3)]
    estimates = estimated_rtts_ms(origin, [direction(target) for target in targets])
    for target, estimate in zip(targets, estimates, strict=True):
        assert estimate == pytest.approx(estimated_rtt_ms(origin, target), rel=1e-6), great_circle_km(
            origin, target
        )


def regions(count: int) -> Topology:
    """Each with a cell of its own, a degree apart on the equator."""
    return Topology(
        cells=tuple(Cell(name=f"c-{n}", region=f"r{n}", address="h:1") for n in range(count)),
        regions=tuple(
            Region(name=f"r{n}", coordinates=Coordinates(0.0, float(n)), country="GA", cell=f"c-{n}")
            for n in range(count)
        ),
    )


def at(longitude: float) -> Origin:
    return Origin(label=f"0,{longitude:g}", coordinates=Coordinates(0.0, longitude))


ANSWERING = AgentProfile("answering", (StepProfile("answer", "code"),))


def test_each_user_gets_the_nearest_home_and_those_of_one_home_share_its_receipt() -> None:
    patient = Planner(regions(40))
    near = [patient.plan(ANSWERING, at(longitude), limit=3) for longitude in (4.9, 20.2, 5.1)]
    assert [planned.home for planned in near] == ["r5", "r20", "r5"]
    assert near[0].root is near[2].root
    assert near[0].homes != near[2].homes


def test_what_is_kept_has_a_bound() -> None:
    topology = regions(6)
    narrow = [replace(ANSWERING, name=f"agent-{number}") for number in range(4)]
    patient = Planner(topology)
    with patch.object(planner, "PREPARED_AGENTS", 2), patch.object(receipt, "CANDIDATES_KEPT", 8):
        for _ in range(2):
            for agent in narrow:
                for longitude in range(6):
                    for limit in (3, None):
                        again = patient.plan(agent, at(longitude), limit=limit)
                        assert again == plan(agent, at(longitude), topology, limit=limit)


def test_a_bound_that_a_nearer_user_keeps_and_one_further_off_does_not() -> None:
    """What was found for one budget serves a smaller one, and not a larger one."""
    topology = regions(60)
    level = requirements(objective=Objective(timedelta(milliseconds=60)))
    patient = Planner(topology)
    for longitude in (75.0, 59.0, 90.0, 100.0, 58.0):
        kept = outcome(patient.plan, ANSWERING, at(longitude), requirements=level)
        assert kept == outcome(plan, ANSWERING, at(longitude), topology, requirements=level)
    with pytest.raises(PlacementError, match="latency bound"):
        patient.plan(ANSWERING, at(100.0), requirements=level)
    assert patient.plan(ANSWERING, at(59.0), requirements=level).home == "r59"


def test_round_trips_of_an_origin_are_kept_and_those_of_a_region_are_its_own() -> None:
    topology = regions(3)
    network = Network(topology, Snapshot(rtt_ms={("r0", "r1"): 7.0}))
    inside = Origin(label="r0", coordinates=topology.regions[0].coordinates, region="r0")
    beside = Origin(label="x", coordinates=topology.regions[0].coordinates)
    unknown = replace_region(beside, "atlantis")
    assert network.rtts_to_cells_ms(inside)[1] == 7.0
    assert network.rtts_to_cells_ms(beside)[1] != 7.0
    assert network.rtts_to_cells_ms(unknown) is network.rtts_to_cells_ms(beside)
    assert network.rtts_to_cells_ms(inside) is network.rtts_to_cells_ms(inside)


def replace_region(origin: Origin, region: str) -> Origin:
    return origin.model_copy(update={"region": region})


def test_a_newer_snapshot_is_planned_with() -> None:
    topology = regions(2)
    assert Planner(topology).plan(ANSWERING, at(0.0)).home == "r0"
    down = Snapshot(regions={"r0": RegionReading(state="down")})
    assert Planner(topology, down).plan(ANSWERING, at(0.0)).home == "r1"
