"""The optimum by trying everything, from the documented formula and nothing of the planner's code.

A queued step: 15 ms, RTT(place, cell), RTT(home, cell), its payload at 100 Mbit/s unless place,
home and cell are one region, its wait in the place's queue and its run time. An inline step (at
home): 3 ms and its run time. Both: 0.3 of the distance from p50 to p95. A hand-off: RTT(home of
the sub-agent, cell), RTT(home, cell) and 20 ms. Start and result: 20 ms, twice RTT(origin,
cell), RTT(home, cell).
"""

import itertools
import math
from collections.abc import Iterator

from orchestrator.geography import Origin, estimated_rtt_ms
from orchestrator.placement import AgentProfile, Snapshot, StepProfile
from orchestrator.requirements import Requirements
from orchestrator.topology import Region, Topology

PRIORS = {"model": (1000, 4000), "vector": (25, 80), "tool": (300, 1500), "code": (5, 25)}


class World:
    def __init__(self, topology: Topology, snapshot: Snapshot) -> None:
        self.topology = topology
        self.snapshot = snapshot
        self.regions = {region.name: region for region in topology.regions}
        self.cells = {cell.name: cell.region for cell in topology.cells}
        self.links = {(link.source, link.target): link.rtt_ms for link in topology.links}

    def rtt(self, a: str, b: str) -> float:
        for measured in (self.snapshot.rtt_ms, self.links):
            for way in ((a, b), (b, a)):
                if way in measured:
                    return measured[way]
        if a == b:
            return 0.6
        return estimated_rtt_ms(self.regions[a].coordinates, self.regions[b].coordinates)

    def works(self, region: Region) -> bool:
        reading = self.snapshot.regions.get(region.name)
        return reading is None or reading.state in ("up", "unknown")

    def answers(self, cell: str) -> bool:
        return cell not in self.snapshot.cells_down

    def serves(self, region: Region, cell: str) -> bool:
        return not region.serves or cell in region.serves

    def permitted(self, region: Region, *levels: Requirements) -> bool:
        clauses = [clause for level in levels for clause in level.residency.clauses]
        return all(any(name in region.jurisdictions for name in clause) for clause in clauses)

    def run_time(self, step: StepProfile, place: str) -> tuple[float, float]:
        p50, p95 = PRIORS.get(step.kind, (100, 500))
        if step.prior:
            p50, p95 = step.prior.p50_ms, step.prior.p95_ms
        seen = self.snapshot.run_times.get((step.name, place))
        if seen:
            share = seen.samples / (seen.samples + 4)
            p50 = p50 * (1 - share) + seen.p50_ms * share
            p95 = p95 * (1 - share) + seen.p95_ms * share
        return p50, max(p50, p95)

    def wait(self, step: StepProfile, place: str, p50: float) -> float:
        reading = self.snapshot.regions.get(place)
        queue = reading.queues.get(step.kind) if reading else None
        if queue is None:
            return 0.0
        if queue.slots is None:
            return queue.backlog * p50
        ahead = queue.backlog + queue.busy - queue.slots + 1
        return max(0, ahead) * p50 / max(1, queue.slots)


Ways = list[tuple[float, float]]
"""Latency and price of each combination of choices."""


def ways_of_step(
    world: World, step: StepProfile, levels: tuple[Requirements, ...], home: str, cell: str
) -> Ways:
    ways: Ways = []
    server = world.cells[cell]
    needed = {key for level in (*levels, step.requirements) for key in level.offers}
    for region in world.regions.values():
        offered = {(offer.kind, offer.name) for offer in region.offers}
        if not (
            world.permitted(region, *levels, step.requirements)
            and needed <= offered
            and world.works(region)
            and world.serves(region, cell)
        ):
            continue
        place = region.name
        if step.dispatch == "inline" and place != home:
            continue
        p50, p95 = world.run_time(step, place)
        price = math.fsum(offer.price for offer in region.offers if (offer.kind, offer.name) in needed)
        longest = 1000 if step.cancellable else 60_000
        quick = step.dispatch == "inline" or (step.dispatch == "auto" and step.repeatable and p95 <= longest)
        if place == home and quick:
            latency = 3 + p50 + 0.3 * (p95 - p50)
        else:
            latency = 15 + world.rtt(place, server) + world.rtt(home, server)
            latency += 0 if place == home == server else step.payload_bytes / 12_500
            latency += world.wait(step, place, p50) + p50 + 0.3 * (p95 - p50)
        ways.append((step.expected_calls * latency, step.expected_calls * price))
    if not ways and step.expected_calls == 0:
        return [(0.0, 0.0)]
    return ways


def ways_of_agent(
    world: World, agent: AgentProfile, above: tuple[Requirements, ...], home: str, cell: str
) -> Ways:
    """Every combination of places and sub-agents' homes; none where the home itself is not allowed."""
    levels = (*above, agent.requirements)
    region, server = world.regions[home], world.regions[world.cells[cell]]
    if not (
        world.permitted(region, *levels)
        and world.permitted(server, *levels)
        and world.works(region)
        and world.answers(cell)
        and world.serves(region, cell)
    ):
        return []
    parts = [ways_of_step(world, step, levels, home, cell) for step in agent.steps]
    for handoff in agent.handoffs:
        below: Ways = []
        for other in world.regions:
            trip = world.rtt(other, server.name) + world.rtt(home, server.name) + 20
            for latency, price in ways_of_agent(world, handoff.agent, levels, other, cell):
                below.append((handoff.expected_calls * (latency + trip), handoff.expected_calls * price))
        if not below and handoff.expected_calls == 0:
            below = [(0.0, 0.0)]
        parts.append(below)
    return [
        (math.fsum(latency for latency, _ in chosen), math.fsum(price for _, price in chosen))
        for chosen in itertools.product(*parts)
    ]


def ways_of_run(
    world: World, agent: AgentProfile, origin: Origin, requirements: Requirements, round_trips: int
) -> Iterator[tuple[str, float, float]]:
    """Home, latency and price of every way to do the run."""
    for home, region in world.regions.items():
        server = world.cells[region.cell]
        if origin.region is not None:
            to_cell = world.rtt(origin.region, server)
        else:
            to_cell = estimated_rtt_ms(origin.coordinates, world.regions[server].coordinates)
        start = 20 + round_trips * to_cell + world.rtt(home, server)
        for latency, price in ways_of_agent(world, agent, (requirements,), home, region.cell):
            yield home, start + latency, price
