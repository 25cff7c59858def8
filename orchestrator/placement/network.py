"""Round trip times between any two places, from the best source that knows them."""

from orchestrator.geography import Origin, estimated_rtt_ms
from orchestrator.placement.snapshot import Snapshot
from orchestrator.topology import Topology


class Network:
    """Answers how far apart two regions are.

    Sources, best first: live probes, the topology's links, an estimate from coordinates. A
    source that knows one direction only serves for both. No triangle inequality is assumed: in
    28 % of the pairs of AWS regions a relay beats the direct path, and runs do not take relays.
    """

    def __init__(self, topology: Topology, snapshot: Snapshot) -> None:
        self._topology = topology
        backwards = {(b, a): rtt_ms for (a, b), rtt_ms in snapshot.rtt_ms.items()}
        self._probed = {**backwards, **snapshot.rtt_ms}

    def rtt_ms(self, a: str, b: str) -> float:
        """Between two regions."""
        probed = self._probed.get((a, b))
        return self._topology.rtt_ms(a, b) if probed is None else probed

    def rtts_to_own_cell_ms(self) -> list[float]:
        """From every region of the topology, in its order, to the server of its own cell."""
        known = self._topology.rtts_to_own_cell_ms
        if not self._probed:
            return list(known)
        ends = ((region.name, self._topology.cell(region.cell).region) for region in self._topology.regions)
        return [self._probed.get(pair, rtt_ms) for pair, rtt_ms in zip(ends, known, strict=True)]

    def rtts_to_ms(self, target: str) -> list[float]:
        """From every region of the topology, in its order, to one of them."""
        known = self._topology.rtts_to_ms(target)
        if not self._probed:
            return list(known)
        names = (region.name for region in self._topology.regions)
        return [self._probed.get((name, target), rtt_ms) for name, rtt_ms in zip(names, known, strict=True)]

    def rtt_from_ms(self, origin: Origin, region: str) -> float:
        """Between a user and a region."""
        if origin.region is not None and self._topology.has_region(origin.region):
            return self.rtt_ms(origin.region, region)
        return estimated_rtt_ms(origin.coordinates, self._topology.region(region).coordinates)
