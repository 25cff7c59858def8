"""Home and places of a whole run, solved together and exactly for the cost model.

Pure: no I/O, no clock, no log, no randomness. ``search`` finds what the parts of an agent take
from a home, ``prepared`` keeps it, ``homes`` chooses the home for a user, ``receipt`` says why.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.geography import Origin
from orchestrator.placement.homes import HomeChoice
from orchestrator.placement.network import Network
from orchestrator.placement.plan import Plan
from orchestrator.placement.prepared import PreparedAgent
from orchestrator.placement.profile import AgentProfile
from orchestrator.placement.receipt import KeptReceipts
from orchestrator.placement.refusals import refuse_cycles
from orchestrator.placement.snapshot import Snapshot
from orchestrator.requirements import Requirements
from orchestrator.topology import Topology

START_THEN_RESULT = 2
"""Round trips of a user who starts a run and, when that is confirmed, asks for its result."""

IN_ONE_REQUEST = 1
"""Round trips of a user whose request to start a run is answered with its result."""

PREPARED_AGENTS = 16
"""So many agents, each with the requirements of a run, are kept prepared. Over 1,000 regions one of ten
steps takes a few megabytes."""


def plan(
    agent: AgentProfile,
    origin: Origin,
    topology: Topology,
    snapshot: Snapshot | None = None,
    *,
    requirements: Requirements | None = None,
    homes: Iterable[str] | None = None,
    usual_home: str | None = None,
    round_trips: int = START_THEN_RESULT,
    limit: int | None = None,
) -> Plan:
    """Plan a run of an agent for a user at an origin.

    Args:
        agent: What the run consists of.
        origin: Where the user is.
        topology: What exists.
        snapshot: What is known of the regions now; nothing if left out.
        requirements: Those of this run, on top of the agent's own.
        homes: Regions to consider as homes; all if left out.
        usual_home: The home of the latest run of this agent and origin: it is kept unless
            another is better by more than ``HYSTERESIS``, so that near-equal readings do not
            move runs back and forth.
        round_trips: From the user to the home's cell: two where the run is started and its result
            is asked for, one where the answer comes with the start (``IN_ONE_REQUEST``).
        limit: How many candidates and exclusions each part of the receipt holds, as
            ``Plan.compact`` would leave them; all if left out. With hundreds of regions most
            of the time of a plan goes into a receipt that nobody limits.

    Raises:
        PlacementError: A step or the run has no place left; names the rule that emptied it.
    """
    planner = Planner(topology, snapshot or Snapshot())
    return planner.plan(
        agent,
        origin,
        requirements=requirements,
        homes=homes,
        usual_home=usual_home,
        round_trips=round_trips,
        limit=limit,
    )


class Planner:
    """Plans many runs over one topology and snapshot; gives the same plans as ``plan``.

    What does not depend on the user is found once and kept, so that each further plan of an
    agent is a matter of a few sums. Both arguments are immutable, so nothing kept gets old; for
    a newer snapshot make another planner. For one thread at a time.

    Args:
        topology: What exists.
        snapshot: What is known of the regions; nothing if left out.
    """

    def __init__(self, topology: Topology, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot or Snapshot()
        self._network = Network(topology, self.snapshot)
        self._prepared: dict[tuple[AgentProfile, Requirements], PreparedAgent] = {}
        self._kept = KeptReceipts()

    def plan(
        self,
        agent: AgentProfile,
        origin: Origin,
        *,
        requirements: Requirements | None = None,
        homes: Iterable[str] | None = None,
        usual_home: str | None = None,
        round_trips: int = START_THEN_RESULT,
        limit: int | None = None,
    ) -> Plan:
        """Plan a run. The arguments and errors are those of ``plan``.

        Raises:
            PlacementError: A step or the run has no place left; names the rule that emptied it.
        """
        prepared = self._prepare(agent, requirements or Requirements())
        asked = None if homes is None else frozenset(homes)
        return HomeChoice(prepared, origin, asked, usual_home, round_trips).plan(limit)

    def _prepare(self, agent: AgentProfile, requirements: Requirements) -> PreparedAgent:
        key = (agent, requirements)
        prepared = self._prepared.pop(key, None)
        if prepared is None:
            refuse_cycles(agent)
            prepared = PreparedAgent(self._network, self.snapshot, agent, requirements, self._kept)
            if len(self._prepared) >= PREPARED_AGENTS:
                del self._prepared[next(iter(self._prepared))]
                self._kept.clear()
        # the one used last is the last to go
        self._prepared[key] = prepared
        return prepared
