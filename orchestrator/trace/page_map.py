"""The map of a run: the regions, and the way from the origin to the home and on to the places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from orchestrator.geography import Coordinates, country_name
from orchestrator.topology import Region, Topology
from orchestrator.trace.page_values import Leg, Map, Spot
from orchestrator.trace.run_trace import RunTrace

LEAST_HALF_WIDTH, LEAST_HALF_HEIGHT = 24.0, 13.0
"""Degrees around the middle of the map at the least, so that one region is not all of it."""

MARGIN = 1.25
"""How much more than the points themselves is seen."""


def map_of(run: RunTrace, topology: Topology) -> Map:
    """The map of a run.

    Args:
        run: The run; one without a plan has no path.
        topology: Where the regions are. What it does not know is left out.
    """
    regions = {region.name: region for region in topology.regions}
    ran = Counter(step.ran_in or step.place for step in run.all_steps())
    homes = {agent.home for agent in run.all_agents()}
    spots = [_spot(region, homes, ran[region.name]) for region in topology.regions]
    origin = run.plan.origin if run.plan else None
    if origin is not None:
        spots.insert(0, _origin(origin.label, origin.coordinates))
    seen = [spot for spot in spots if spot.role != "region"] or spots
    centre, frame = _frame([(spot.longitude, spot.latitude) for spot in seen])
    return Map(
        centre=centre,
        frame=frame,
        spots=tuple(spots),
        legs=tuple(_legs(run, regions)),
        summary=_summary(run, ran),
    )


def _spot(region: Region, homes: Iterable[str | None], steps: int) -> Spot:
    role: Literal["home", "place", "region"] = (
        "home" if region.name in homes else "place" if steps else "region"
    )
    did = f"{steps} step{'s' * (steps != 1)}" if steps else "no step of this run"
    return Spot(
        name=region.name,
        role=role,
        longitude=region.coordinates.longitude,
        latitude=region.coordinates.latitude,
        detail=f"{country_name(region.country)} · {'home · ' * (role == 'home')}{did}",
    )


def _origin(label: str, at: Coordinates) -> Spot:
    return Spot(name=label, role="origin", longitude=at.longitude, latitude=at.latitude, detail="origin")


def _legs(run: RunTrace, regions: dict[str, Region]) -> Iterable[Leg]:
    if run.plan is None:
        return
    known = {name: region.coordinates for name, region in regions.items()}
    ways: Counter[tuple[Literal["start", "handoff", "step"], Coordinates, Coordinates]] = Counter()
    if run.home in known:
        ways["start", run.plan.origin.coordinates, known[run.home]] += 1
    for agent in run.all_agents():
        for below in agent.sub_agents:
            if agent.home in known and below.home in known:
                ways["handoff", known[agent.home], known[below.home]] += 1
        for step in agent.steps:
            place = step.ran_in or step.place
            if agent.home in known and place in known:
                ways["step", known[agent.home], known[place]] += 1
    for (role, source, target), count in ways.items():
        if source != target:
            ends = ((source.longitude, source.latitude), (target.longitude, target.latitude))
            yield Leg(role=role, coordinates=ends, count=count)


def _frame(points: Sequence[tuple[float, float]]) -> tuple[float, tuple[tuple[float, float], ...]]:
    """The longitude in the middle, and the edge of what has to be seen."""
    west, width = _narrowest([longitude for longitude, _ in points])
    half_width = min(180.0, max(LEAST_HALF_WIDTH, width / 2 * MARGIN))
    latitudes = [latitude for _, latitude in points]
    middle = (max(latitudes) + min(latitudes)) / 2
    half_height = max(LEAST_HALF_HEIGHT, (max(latitudes) - min(latitudes)) / 2 * MARGIN)
    centre = west + width / 2
    edge = tuple(
        (_wrapped(centre + across * half_width * 0.999), min(84.0, max(-80.0, middle + up * half_height)))
        for across in (-1.0, -0.5, 0.0, 0.5, 1.0)
        for up in (-1.0, 1.0)
    )
    return _wrapped(centre), edge


def _narrowest(longitudes: Sequence[float]) -> tuple[float, float]:
    """The western end and the width, in degrees, of the narrowest stretch that holds all of them.

    It may cross the date line: all that is left out is the widest gap between neighbours.
    """
    around = sorted(longitudes)
    gaps = [(after - before) % 360.0 for before, after in zip(around, [*around[1:], around[0]], strict=True)]
    if around[0] == around[-1]:
        return around[0], 0.0
    widest = max(range(len(gaps)), key=gaps.__getitem__)
    return around[(widest + 1) % len(around)], 360.0 - gaps[widest]


def _wrapped(longitude: float) -> float:
    """The same longitude between -180 and 180 degrees."""
    return (longitude + 180.0) % 360.0 - 180.0


def _summary(run: RunTrace, ran: Counter[str | None]) -> str:
    places = ", ".join(name for name in ran if name) or "nowhere yet"
    if run.plan is None:
        return f"Map of the regions. The run has no plan, so no path; its steps ran in {places}."
    return f"Map: from {run.plan.origin.label} to the home {run.home}; steps ran in {places}."
