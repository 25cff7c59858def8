"""Serves one cell for one region: the pollers of its queues, kept alive until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from orchestrator.application import Application
from orchestrator.dispatch import (
    HEARTBEAT_THROTTLE,
    Build,
    EdgewardPlugin,
    HedgeQuestions,
    Reconciliation,
    Site,
    connect_cell,
    reconcile,
)
from orchestrator.errors import ConfigurationError
from orchestrator.fleet.draining import draining_regions
from orchestrator.fleet.probes import ProbeError, cell_round_trips, queue_statistics
from orchestrator.queues import agents_queue, step_queue
from orchestrator.runtime.fence import FencedWorker
from orchestrator.runtime.pausing import within
from orchestrator.runtime.warm_up import warm_types
from orchestrator.topology import Cell, OfferKind, Region, Topology

log = structlog.get_logger(__name__)

POLLERS = PollerBehaviorAutoscaling(minimum=4, initial=8, maximum=100)
"""A poller takes at most one task a round trip, so a far cell needs many, and of the SDK's five one
is for new runs. Measured with 32 runs at a time in a cell 100 ms away (bench ``tuning``, n = 192): five
pollers end 11.8 runs of inline steps a second, twenty 33.1, these 46.9; of queued steps 7.0, 15.8 and
13.4. In a near cell, and for one run at a time, all three are within the noise."""

STICKY_TIMEOUT = timedelta(seconds=2)
"""How long a run waits for the worker that has it in its cache before any other may take it. A run that
waited for a signal when its worker was killed goes on elsewhere after 2.0 s, with Temporal's own 10 s
after 10.0 (bench ``tuning``, n = 3). A living worker that does not
take it in time costs the run one replay, so this is many round trips long."""

DRAIN = timedelta(seconds=30)
"""How long a stopping worker lets its steps finish."""

CONNECT_WITHIN = timedelta(seconds=10)
"""A cell that has not answered by then is away, and tried again."""

POLLED_WITHIN = timedelta(seconds=2)
"""How long to wait until the server has seen the pollers of a queue."""

RETRY = timedelta(seconds=2)
"""Pause before a cell that failed is tried again."""

POLLED_S = 0.01
"""Pause between two questions whether a queue is polled."""

PROBE_S = 2.0
PROBE_DEADLINE = timedelta(seconds=2)

OFFER_OF_KIND: dict[str, OfferKind] = {"model": "model", "vector": "collection", "tool": "tool"}
"""Which offers limit the slots of a kind of step."""


class CellService:
    """A region's workers in one cell; or those with which it stands in for another one.

    Attributes:
        state: ``polling``, or why it is not.
        tried: Whether it has polled the cell, or found it away.
        rtt_ms: From here to the cell's server; None until it was measured.
        client: The cell's client while its queues are polled.
        draining: The regions that an operator has drained, as the region's own cell keeps it.
    """

    def __init__(
        self,
        cell: Cell,
        topology: Topology,
        application: Application,
        site: Site,
        *,
        runtime: Runtime,
        executor: ThreadPoolExecutor,
        cached_runs: int,
        build: Build | None = None,
        stands_in_for: Region | None = None,
    ) -> None:
        self.cell = cell
        self.state = "connecting"
        self.tried = False
        self.rtt_ms: float | None = None
        self.client: Client | None = None
        self.draining: frozenset[str] = frozenset()
        self._topology = topology
        self._application = application
        self._site = site
        self._runtime = runtime
        self._executor = executor
        self._cached_runs = cached_runs
        self._stands_in_for = stands_in_for
        self._others: dict[str, Client] = {}
        self._deployment = build.of((stands_in_for or site.region).name) if build is not None else None

    async def serve(self, stopping: asyncio.Event, warm: asyncio.Event) -> None:
        """Polls until ``stopping`` is set, then drains. A cell that is away is tried again.

        Args:
            stopping: Set when the worker takes nothing new.
            warm: Set when the worker may take work.

        Raises:
            ConfigurationError: The application cannot be served at all.
        """
        while not stopping.is_set():
            try:
                client = await self._connect()
                workers = self._checked_workers(client)
                warm_types(self._application, client.data_converter.payload_converter)
                await _either(stopping, warm)
                if not stopping.is_set():
                    await self._poll(client, workers, stopping)
            except (RuntimeError, RPCError, OSError) as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                self.state = f"unavailable: {reason}"
                log.warning(
                    "cell.unavailable", cell=self.cell.name, region=self._site.region.name, reason=reason
                )
            self.tried = True
            await within(RETRY, stopping)
        self.state = "stopped"

    async def _connect(self) -> Client:
        plugin = EdgewardPlugin(
            self._topology, application=self._application, cell=self.cell.name, site=self._site
        )
        region = self._site.region.name
        async with asyncio.timeout(CONNECT_WITHIN.total_seconds()):
            return await connect_cell(
                self.cell, plugins=[plugin], runtime=self._runtime, identity=f"edgeward@{region}"
            )

    async def _poll(
        self, client: Client, workers: list[Worker | FencedWorker], stopping: asyncio.Event
    ) -> None:
        queues = [worker.task_queue for worker in workers]
        before = await asyncio.gather(*(_last_polled(client, queue) for queue in queues))
        probing = asyncio.create_task(self._probe(client))
        stopped = asyncio.create_task(stopping.wait())
        seen = asyncio.create_task(self._polled(client, dict(zip(queues, before, strict=True))))
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            await asyncio.wait([stopped, seen, *running], return_when=asyncio.FIRST_COMPLETED)
            self.state, self.tried, self.client = "polling", True, client
            await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
            self.state, self.client = "draining" if stopping.is_set() else "restarting", None
            await asyncio.gather(*(worker.shutdown() for worker in workers if worker.is_running))
            await asyncio.gather(*running)
        finally:
            for task in (probing, stopped, seen, *running):
                task.cancel()
            await asyncio.gather(probing, stopped, seen, *running, return_exceptions=True)

    async def _polled(self, client: Client, before: Mapping[str, datetime | None]) -> None:
        """Waits until the server has seen pollers: a run that starts then finds them."""
        for queue, polled_at in before.items():
            with contextlib.suppress(TimeoutError):  # the server does not tell; they are on their way
                async with asyncio.timeout(POLLED_WITHIN.total_seconds()):
                    while await _last_polled(client, queue) == polled_at:
                        await asyncio.sleep(POLLED_S)
            log.info("queue.polled", region=self._site.region.name, cell=self.cell.name, queue=queue)

    def _checked_workers(self, client: Client) -> list[Worker | FencedWorker]:
        try:
            return self._workers(client)
        except (RuntimeError, ValueError, TypeError) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"the application cannot be served: {error}: {type(cause).__name__}: {cause}"
            ) from error

    def _workers(self, client: Client) -> list[Worker | FencedWorker]:
        if self._stands_in_for is not None:
            return [self._agents_worker(client, agents_queue(self._stands_in_for.name))]
        region, steps = self._site.region, list(self._application.steps)
        agents: list[Worker | FencedWorker] = [self._agents_worker(client, agents_queue(region.name))]
        if self._topology.standbys(region):
            agents.append(self._agents_worker(client, agents_queue(region.name, homebound=True)))
        by_kind: dict[str, list[Callable[..., Any]]] = defaultdict(list)
        for definition, function in zip(self._application.step_definitions, steps, strict=True):
            by_kind[definition.kind].append(function)
        return [
            *agents,
            *(self._step_worker(client, kind, functions) for kind, functions in by_kind.items()),
        ]

    def _agents_worker(self, client: Client, queue: str) -> Worker | FencedWorker:
        make = partial(
            Worker,
            client,
            task_queue=queue,
            workflows=list(self._application.agents),
            activities=[*self._application.steps, HedgeQuestions(self._site.health).may_hedge],
            activity_executor=self._executor,
            max_cached_workflows=self._cached_runs,
            workflow_task_poller_behavior=POLLERS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            graceful_shutdown_timeout=DRAIN,
            deployment_config=self._deployment,
        )
        if len(self._topology.cells) == 1:
            return make()

        async def reconciled(queue: str) -> Reconciliation:
            return await reconcile(self.cell.name, client, await self._other_cells(), queues=[queue])

        return FencedWorker(make, client, reconciled)

    async def _other_cells(self) -> dict[str, Client]:
        """Where runs of this cell may have been started again."""
        for cell in self._topology.cells:
            if cell.name != self.cell.name and cell.name not in self._others:
                self._others[cell.name] = await connect_cell(cell, runtime=self._runtime, lazy=True)
        return self._others

    def _step_worker(self, client: Client, kind: str, steps: Sequence[Callable[..., Any]]) -> Worker:
        return Worker(
            client,
            task_queue=step_queue(self._site.region.name, kind),
            activities=steps,
            activity_executor=self._executor,
            max_concurrent_activities=slots(self._site.region, kind),
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            activity_task_poller_behavior=POLLERS,
            graceful_shutdown_timeout=DRAIN,
            deployment_config=self._deployment,
        )

    async def _probe(self, client: Client) -> None:
        while True:
            try:
                self.rtt_ms = min(await cell_round_trips(client, PROBE_DEADLINE))
            except ProbeError:
                self.rtt_ms = None
            if self.cell.name == self._site.region.cell:
                with contextlib.suppress(ProbeError):
                    self.draining = await draining_regions(client, PROBE_DEADLINE)
            await asyncio.sleep(PROBE_S)


def slots(region: Region, kind: str) -> int:
    """How many steps of a kind the region runs at a time in each cell: as many as its offers serve.

    Further steps wait in the queue, where placement sees them, and not in their own timeout. Measured
    with a backend that serves 8 at a time and takes 1 s, and 32 runs at once (bench ``tuning``): with 8
    slots the body of a step takes 1.0 s at p99, with 100 slots 3.9 s, at the same runs a second.
    """
    offered = [offer.slots for offer in region.offers if offer.kind == OFFER_OF_KIND.get(kind)]
    return sum(offered) or 100


async def _last_polled(client: Client, queue: str) -> datetime | None:
    try:
        return (await queue_statistics(client, queue, PROBE_DEADLINE)).polled_at
    except ProbeError:
        return None


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
