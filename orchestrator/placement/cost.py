"""What a step costs in a place: the model that placement optimises.

The figures of the orchestrator were measured on a tuned Temporal server (1.32, in memory,
loopback): a queued step takes two round trips, one from the place's worker to the cell and
one from the home's, and about 15 ms of the server; an inline step takes none and about 3 ms.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, computed_field

from orchestrator.placement.network import Network
from orchestrator.placement.profile import DEFAULT_PRIOR, PRIORS, Dispatch, RunTime, StepProfile
from orchestrator.placement.snapshot import Snapshot

QUEUE_MS = 15.0
"""Server and SDK time of a queued step, without the network: 11 to 15 ms on a quiet machine, 20 to 24
where two busy cores serve everything (bench ``overhead``)."""

INLINE_MS = 3.0
"""SDK time of an inline step."""

START_MS = 20.0
"""From the start of a run to its first step, and from its last to its result, without the network."""

INLINE_LIMIT_MS = 1000.0
"""Longest p95 of a step that runs inline: while inline steps run, the run's timers, signals
and cancellation wait for them."""

UNCANCELLABLE_LIMIT_MS = 60_000.0
"""The same of a step that need not be cancellable. A crash of the home repeats it, and every few
seconds of it cost the cell a workflow task (three events of history)."""

BANDWIDTH_BYTES_PER_MS = 12_500.0
"""Assumed between regions: 100 Mbit/s for one flow."""

SPREAD_WEIGHT = 0.3
"""λ: how much of the distance from p50 to p95 counts as cost."""


HEDGE_SAMPLES = 20
"""A p95 of fewer calls is not one to hedge by."""

HEDGE_FROM_MS = 100.0
"""A shorter p95 is not worth the timer (two events of history) that watches over it."""


HEDGE_MARGIN_MS = 25.0
"""So much beyond the predicted time, too: where all calls take nearly the same, every twentieth would else be
dispatched a second time for some milliseconds."""


class StepCost(BaseModel):
    """The predicted cost of one call of a step in one place, split into its parts."""

    model_config = ConfigDict(frozen=True)

    dispatch_ms: float
    """Server and SDK time."""

    network_ms: float
    """Round trips: place to cell and home to cell."""

    transfer_ms: float
    """Payload bytes over the assumed bandwidth."""

    wait_ms: float
    """In the place's queue, from its backlog and free slots."""

    run_ms: float
    """The step's body, p50."""

    spread_ms: float
    """λ · (p95 − p50) of the body: the price of not knowing."""

    price: float
    """Of the offers that it uses."""

    @computed_field
    @property
    def predicted_ms(self) -> float:
        """Expected wall time of the call."""
        return self.dispatch_ms + self.network_ms + self.transfer_ms + self.wait_ms + self.run_ms

    @property
    def latency_ms(self) -> float:
        """What the planner minimises: the expected time plus its spread."""
        return self.predicted_ms + self.spread_ms


class Body(NamedTuple):
    """What a step takes in a place, wherever its home is."""

    run_ms: float
    spread_ms: float
    wait_ms: float
    """In the place's queue; an inline step does not wait there."""

    may_run_inline: bool
    """Where the place is the home."""

    samples: int = 0
    """How often the step was seen there."""

    @property
    def queued_ms(self) -> float:
        """All of it but the network and the transfer, from the place's queue."""
        return QUEUE_MS + self.wait_ms + self.run_ms + self.spread_ms

    @property
    def inline_ms(self) -> float:
        """All of it, inside the home worker."""
        return INLINE_MS + self.run_ms + self.spread_ms

    def hedge_after_ms(self, cost: StepCost) -> float | None:
        """When a call takes unusually long: after its p95. None where that is not known, or short."""
        if self.samples < HEDGE_SAMPLES:
            return None
        p95_ms = cost.predicted_ms + self.spread_ms / SPREAD_WEIGHT
        return max(p95_ms, cost.predicted_ms + HEDGE_MARGIN_MS) if p95_ms >= HEDGE_FROM_MS else None

    def cost(self, dispatch: Dispatch, *, network_ms: float, transfer_ms: float, price: float) -> StepCost:
        """The cost of a call, with what depends on the home. Inline calls cross no network."""
        queued = dispatch == "queue"
        return StepCost(
            dispatch_ms=QUEUE_MS if queued else INLINE_MS,
            network_ms=network_ms if queued else 0.0,
            transfer_ms=transfer_ms if queued else 0.0,
            wait_ms=self.wait_ms if queued else 0.0,
            run_ms=self.run_ms,
            spread_ms=self.spread_ms,
            price=price,
        )


def transfer_ms(step: StepProfile) -> float:
    """Time of the step's payload between regions."""
    return step.payload_bytes / BANDWIDTH_BYTES_PER_MS


class CostModel:
    """Predicts costs from a network and a snapshot. Pure: the same readings give the same costs."""

    def __init__(self, network: Network, snapshot: Snapshot) -> None:
        self._network = network
        self._snapshot = snapshot
        self._steps_seen = {step for step, _ in snapshot.run_times}
        self._kinds_read = {kind for reading in snapshot.regions.values() for kind in reading.queues}

    def run_time(self, step: StepProfile, place: str) -> RunTime:
        """Learned p50 and p95 of the step there, with a prior for the cold."""
        prior = step.prior or PRIORS.get(step.kind, DEFAULT_PRIOR)
        seen = self._snapshot.run_times.get((step.name, place))
        return prior.updated_with(seen) if seen else prior

    def is_alike_everywhere(self, step: StepProfile) -> bool:
        """Whether nothing has been read that tells the step's places apart."""
        return step.name not in self._steps_seen and step.kind not in self._kinds_read

    def body(self, step: StepProfile, place: str) -> Body:
        """What the step takes there: run time, its spread, the wait in the queue."""
        run_time = self.run_time(step, place)
        queue = self._snapshot.region(place).queues.get(step.kind)
        limit_ms = INLINE_LIMIT_MS if step.cancellable else UNCANCELLABLE_LIMIT_MS
        inline = step.dispatch == "inline" or (
            step.dispatch == "auto" and step.repeatable and run_time.p95_ms <= limit_ms
        )
        return Body(
            run_ms=run_time.p50_ms,
            spread_ms=SPREAD_WEIGHT * (run_time.p95_ms - run_time.p50_ms),
            wait_ms=queue.expected_wait_ms(run_time.p50_ms) if queue else 0.0,
            may_run_inline=inline,
            samples=run_time.samples,
        )

    def step_cost(
        self, step: StepProfile, *, place: str, home: str, cell_region: str, dispatch: Dispatch, price: float
    ) -> StepCost:
        """Cost of one call.

        Args:
            step: What is called.
            place: The region whose workers run it.
            home: The region whose workers run the workflow.
            cell_region: Where the server of the run's cell stands.
            dispatch: Inline (only where place is home) or on the place's queue.
            price: Of one call there.
        """
        return self.body(step, place).cost(
            dispatch,
            network_ms=self.queue_network_ms(place, home, cell_region),
            transfer_ms=0.0 if place == home == cell_region else transfer_ms(step),
            price=price,
        )

    def queue_network_ms(self, place: str, home: str, cell_region: str) -> float:
        """Round trips of a queued step, or of a handoff to a sub-agent whose home is ``place``."""
        return self._network.rtt_ms(place, cell_region) + self._network.rtt_ms(home, cell_region)
