"""Serves one cell for one region: the pollers of its queues, kept alive until told to stop."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorAutoscaling, Worker

from orchestrator.application import Application
from orchestrator.dispatch import EdgewardPlugin, Site, connect_cell
from orchestrator.errors import ConfigurationError
from orchestrator.fleet.probes import ProbeError, cell_round_trips
from orchestrator.queues import agents_queue, step_queue
from orchestrator.topology import Cell, OfferKind, Region, Topology

log = structlog.get_logger(__name__)

POLLERS = PollerBehaviorAutoscaling(minimum=4, initial=8, maximum=100)
"""A poller takes at most one task a round trip, so a far cell needs many: with the SDK's five,
of which one is for new runs, a worker 100 ms away admits ten runs a second."""

STICKY_TIMEOUT = timedelta(seconds=2)
"""How long a run waits for the worker that has it in its cache before any other may take it."""

DRAIN = timedelta(seconds=30)
"""How long a stopping worker lets its steps finish."""

RETRY_S = 2.0
"""Pause before a cell that failed is tried again."""

PROBE_S = 5.0
PROBE_DEADLINE = timedelta(seconds=2)

OFFER_OF_KIND: dict[str, OfferKind] = {"model": "model", "vector": "collection", "tool": "tool"}
"""Which offers limit the slots of a kind of step."""


class CellService:
    """A region's workers in one cell.

    Attributes:
        state: ``polling``, or why it is not.
        rtt_ms: From here to the cell's server; None until it was measured.
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
    ) -> None:
        self.cell = cell
        self.state = "connecting"
        self.rtt_ms: float | None = None
        self._topology = topology
        self._application = application
        self._site = site
        self._runtime = runtime
        self._executor = executor

    async def serve(self, stopping: asyncio.Event) -> None:
        """Polls until ``stopping`` is set, then drains. A cell that is away is tried again.

        Raises:
            ConfigurationError: The application cannot be served at all.
        """
        while not stopping.is_set():
            try:
                client = await self._connect()
                await self._poll(client, self._checked_workers(client), stopping)
            except (RuntimeError, RPCError, OSError) as error:
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                self.state = f"unavailable: {reason}"
                log.warning(
                    "cell.unavailable", cell=self.cell.name, region=self._site.region.name, reason=reason
                )
            await _either(stopping, RETRY_S)
        self.state = "stopped"

    async def _connect(self) -> Client:
        plugin = EdgewardPlugin(
            self._topology, application=self._application, cell=self.cell.name, site=self._site
        )
        region = self._site.region.name
        return await connect_cell(
            self.cell, plugins=[plugin], runtime=self._runtime, identity=f"edgeward@{region}"
        )

    async def _poll(self, client: Client, workers: list[Worker], stopping: asyncio.Event) -> None:
        probing = asyncio.create_task(self._probe(client))
        stopped = asyncio.create_task(stopping.wait())
        running = [asyncio.create_task(worker.run()) for worker in workers]
        self.state = "polling"
        for worker in workers:
            log.info(
                "queue.polled", region=self._site.region.name, cell=self.cell.name, queue=worker.task_queue
            )
        try:
            await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
            self.state = "draining" if stopping.is_set() else "restarting"
            await asyncio.gather(*(worker.shutdown() for worker in workers if worker.is_running))
            await asyncio.gather(*running)
        finally:
            for task in (probing, stopped, *running):
                task.cancel()
            await asyncio.gather(probing, stopped, *running, return_exceptions=True)

    def _checked_workers(self, client: Client) -> list[Worker]:
        try:
            return self._workers(client)
        except (RuntimeError, ValueError, TypeError) as error:
            cause = error.__cause__ or error
            raise ConfigurationError(
                f"the application cannot be served: {error}: {type(cause).__name__}: {cause}"
            ) from error

    def _workers(self, client: Client) -> list[Worker]:
        region = self._site.region
        steps = list(self._application.steps)
        agents = Worker(
            client,
            task_queue=agents_queue(region.name),
            workflows=list(self._application.agents),
            activities=steps,
            activity_executor=self._executor,
            workflow_task_poller_behavior=POLLERS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
            graceful_shutdown_timeout=DRAIN,
        )
        by_kind: dict[str, list[Callable[..., Any]]] = defaultdict(list)
        for definition, function in zip(self._application.step_definitions, steps, strict=True):
            by_kind[definition.kind].append(function)
        return [agents, *(self._step_worker(client, kind, functions) for kind, functions in by_kind.items())]

    def _step_worker(self, client: Client, kind: str, steps: Sequence[Callable[..., Any]]) -> Worker:
        return Worker(
            client,
            task_queue=step_queue(self._site.region.name, kind),
            activities=steps,
            activity_executor=self._executor,
            max_concurrent_activities=slots(self._site.region, kind),
            activity_task_poller_behavior=POLLERS,
            graceful_shutdown_timeout=DRAIN,
        )

    async def _probe(self, client: Client) -> None:
        while True:
            try:
                self.rtt_ms = min(await cell_round_trips(client, PROBE_DEADLINE))
            except ProbeError:
                self.rtt_ms = None
            await asyncio.sleep(PROBE_S)


def slots(region: Region, kind: str) -> int:
    """How many steps of a kind the region runs at a time in each cell: as many as its offers serve."""
    offered = [offer.slots for offer in region.offers if offer.kind == OFFER_OF_KIND.get(kind)]
    return sum(offered) or 100


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
