"""Round trip times between any two places, from the best source that knows them."""

from orchestrator.geography import Origin, estimated_rtt_ms
from orchestrator.placement.snapshot import Snapshot
from orchestrator.topology import Topology

INSIDE_A_REGION_MS = 0.6
"""RTT between two machines of one region where nobody measured it (AWS, between zones: 0.4–0.9)."""


class Network:
    """Answers how far apart two regions are.

    Sources, best first: live probes, the topology's links, an estimate from coordinates. No
    triangle inequality is assumed: in 28 % of the pairs of AWS regions a relay beats the direct
    path, and runs do not take relays.
    """

    def __init__(self, topology: Topology, snapshot: Snapshot) -> None:
        self._topology = topology
        self._measured: dict[tuple[str, str], float] = {}
        for link in topology.links:
            self._measured[link.source, link.target] = link.rtt_ms
        self._measured.update(snapshot.rtt_ms)

    def rtt_ms(self, a: str, b: str) -> float:
        """Between two regions. A link that is known in one direction serves for both."""
        measured = self._measured.get((a, b))
        if measured is None:
            measured = self._measured.get((b, a))
        if measured is not None:
            return measured
        if a == b:
            return INSIDE_A_REGION_MS
        return estimated_rtt_ms(self._topology.region(a).coordinates, self._topology.region(b).coordinates)

    def rtt_from_ms(self, origin: Origin, region: str) -> float:
        """Between a user and a region."""
        if origin.region is not None:
            return self.rtt_ms(origin.region, region)
        return estimated_rtt_ms(origin.coordinates, self._topology.region(region).coordinates)
