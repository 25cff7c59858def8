"""Generated topologies, agents and readings of the fleet for property-based tests."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import (
    AgentProfile,
    Handoff,
    QueueReading,
    RegionReading,
    RunTime,
    Snapshot,
    StepProfile,
)
from orchestrator.requirements import Objective, Requirements, Residency
from orchestrator.topology import Cell, Link, Offer, OfferKey, Region, Topology

NAMES = ("ams", "bos", "cdg", "del")
STEPS = ("ask", "find", "look")
KINDS = ("model", "vector", "tool", "code", "own")
KEYS = (OfferKey("model", "chat"), OfferKey("collection", "handbook"), OfferKey("tool", "rates"))
ENDPOINTS = {"model": "http://localhost/v1", "collection": "file:///index", "tool": "http://localhost/t"}

# Few distinct values, so that ties happen and hypothesis can shrink them. Strategies are made
# once, here: making them anew in every draw takes longer than the planner does.
rtts_ms = st.one_of(st.sampled_from([0.0, 1.0, 20.0, 90.0, 250.0]), st.floats(0, 400))
prices = st.sampled_from([0.0, 0.1, 1.0, 1.5, 7.0])
calls = st.sampled_from([0.0, 0.5, 1.0, 2.0, 6.0])
names = st.sampled_from(NAMES)
ways = st.tuples(names, names)
links = st.dictionaries(ways, rtts_ms, max_size=12)
points = st.builds(Coordinates, st.floats(-80, 80), st.floats(-180, 180))
countries = st.sampled_from(["DE", "FR", "US", "CH"])
kinds = st.sampled_from(KINDS)
up_to_3 = st.integers(0, 3)
subsets = st.sets(up_to_3).map(sorted)
offered = st.lists(st.one_of(prices, prices, prices, st.none()), min_size=len(KEYS), max_size=len(KEYS))
flags = st.booleans()


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """One to four regions; one to three cells, each served by all or by some."""
    present = NAMES[: 1 + draw(up_to_3)]
    hosts = list(dict.fromkeys(present[number % len(present)] for number in [draw(up_to_3), *draw(subsets)]))
    cells = [f"c-{host}" for host in hosts]
    regions: list[Region] = []
    for name in present:
        own = cells[draw(up_to_3) % len(cells)]
        also = [cells[number % len(cells)] for number in draw(subsets)]
        regions.append(
            Region(
                name=name,
                coordinates=draw(points),
                country=draw(countries),
                cell=own,
                serves=tuple(sorted({own, *also})) if draw(flags) else (),
                offers=tuple(
                    Offer(kind=key.kind, name=key.name, endpoint=ENDPOINTS[key.kind], price=price)
                    for key, price in zip(KEYS, draw(offered), strict=True)
                    if price is not None
                ),
            )
        )
    return Topology(
        cells=tuple(
            Cell(name=cell, region=host, address="localhost:7233")
            for cell, host in zip(cells, hosts, strict=True)
        ),
        regions=tuple(regions),
        links=tuple(
            Link(source=source, target=target, rtt_ms=rtt_ms)
            for (source, target), rtt_ms in draw(links).items()
            if {source, target} <= set(present)
        ),
    )


run_times = st.builds(
    lambda p50_ms, spread_ms, samples: RunTime(p50_ms, p50_ms + spread_ms, samples),
    st.sampled_from([1.0, 40.0, 600.0, 2000.0]),
    st.sampled_from([0.0, 100.0, 3000.0]),
    st.integers(0, 40),
)
queues = st.builds(
    QueueReading, backlog=st.integers(0, 9), slots=st.sampled_from([None, 0, 1, 4]), busy=st.integers(0, 5)
)
readings = st.builds(
    RegionReading,
    state=st.sampled_from(["up", "up", "up", "unknown", "draining", "down"]),
    queues=st.dictionaries(kinds, queues, max_size=3),
)
snapshots = st.builds(
    Snapshot,
    regions=st.dictionaries(names, readings, max_size=3),
    run_times=st.dictionaries(st.tuples(st.sampled_from(STEPS), names), run_times, max_size=4),
    rtt_ms=st.dictionaries(ways, rtts_ms, max_size=6),
    cells_down=st.one_of(
        st.just(frozenset[str]()),
        st.just(frozenset[str]()),
        st.sets(names.map("c-{}".format), max_size=2).map(frozenset[str]),
    ),
)
"""They may know regions that the topology does not."""

clauses = st.sampled_from([{"EU"}, {"DE", "US"}, {"US", "CH", "FR"}, {"EU", "CH"}, {"EU", "US"}]).map(
    frozenset
)
residencies = st.one_of(
    st.just(Residency()),
    st.just(Residency()),
    st.builds(Residency, st.sets(clauses, min_size=1, max_size=2).map(frozenset)),
)
CHAT, HANDBOOK, RATES = KEYS
needs = st.sampled_from([set(), set(), {CHAT}, {HANDBOOK}, {RATES}, {CHAT, RATES}]).map(frozenset[OfferKey])
levels = st.builds(Requirements, residency=residencies)
priced = st.builds(Requirements, offers=st.sampled_from([{CHAT}, {RATES}]).map(frozenset[OfferKey]))

steps = st.builds(
    StepProfile,
    name=st.just("step"),
    kind=kinds,
    requirements=st.builds(Requirements, offers=needs, residency=residencies),
    expected_calls=calls,
    prior=st.none() | run_times,
    repeatable=flags,
    cancellable=flags,
    dispatch=st.sampled_from(["auto", "auto", "queue", "inline"]),
    payload_bytes=st.sampled_from([0, 4096, 2_000_000]),
)
step_lists = st.sampled_from([0, 1, 2, 2, 3, 3]).flatmap(lambda many: st.tuples(*[steps] * many))
short_step_lists = st.one_of(st.tuples(steps), st.tuples(steps, steps))


@st.composite
def agents(draw: st.DrawFn, name: str = "root", depth: int = 2) -> AgentProfile:
    """An agent of up to three steps, with up to two sub-agents, one of which may have one of its own."""
    drawn = draw(step_lists if depth == 2 else short_step_lists)
    below: list[Handoff] = []
    if depth and draw(up_to_3):
        below.append(Handoff(draw(agents(f"{name}-a", depth - 1)), draw(calls)))
        if depth == 2 and draw(flags):
            below.append(Handoff(draw(agents(f"{name}-b", 0)), draw(calls)))
    return AgentProfile(
        name=name,
        steps=tuple(replace(step, name=named) for step, named in zip(drawn, STEPS, strict=False)),
        handoffs=tuple(below),
        requirements=draw(levels),
    )


@st.composite
def origins(draw: st.DrawFn, topology: Topology) -> Origin:
    if draw(flags):
        region = topology.regions[draw(up_to_3) % len(topology.regions)]
        return Origin(label=region.name, coordinates=region.coordinates, region=region.name)
    return Origin(label="somewhere", coordinates=draw(points))


objectives = st.none() | st.builds(
    Objective, st.sampled_from([50, 300, 900, 3000, 20_000]).map(lambda ms: timedelta(milliseconds=ms))
)


def unruled(agent: AgentProfile) -> AgentProfile:
    """The same tree without needs and residencies, so that more than one way is left."""
    return replace(
        agent,
        steps=tuple(replace(step, requirements=Requirements()) for step in agent.steps),
        handoffs=tuple(replace(handoff, agent=unruled(handoff.agent)) for handoff in agent.handoffs),
        requirements=Requirements(),
    )
