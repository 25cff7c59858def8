"""The process that serves a region: its queues in every cell that the topology tells it to."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import structlog
from starlette.applications import Starlette
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig

from orchestrator.application import Application
from orchestrator.backends import Backends
from orchestrator.dispatch import Build, EdgewardPlugin, Site
from orchestrator.errors import ConfigurationError
from orchestrator.fleet import Fleet, QueueStatus, StepTime, WorkerStatus
from orchestrator.fleet.status import Quantiles
from orchestrator.runtime.cell_service import CellService, slots
from orchestrator.runtime.control import control_app, serving
from orchestrator.runtime.pausing import within
from orchestrator.runtime.pieces import PieceBroker, piece_broker
from orchestrator.runtime.standby import Standby
from orchestrator.runtime.warm_up import warm_backends, warm_workflows
from orchestrator.telemetry import flush_telemetry, start_telemetry
from orchestrator.telemetry.names import WORKER_SERVICE
from orchestrator.topology import Region, Topology

log = structlog.get_logger(__name__)

HEARTBEAT = timedelta(seconds=5)
"""How often the cells hear from the worker (slots, status)."""

STATES_EVERY = timedelta(seconds=1)
"""How often runs are told what the probes of regions found."""

CACHED_RUNS = 1000
"""Of each cell. An open run takes some 60 to 100 KiB of the worker's memory."""

THREADS = 100
"""For steps that are plain functions: as many as a worker runs steps at a time. Started when needed."""


class RegionWorker:
    """Runs the agents and steps of one region.

    Args:
        topology: As this process sees it: the addresses that it can reach.
        region: Its name.
        application: Agents and steps.
        listen: ``host:port`` of the control endpoint. Default: loopback, at the port of the
            region's ``control``, or any free one.
        warm_up: Whether it uses its backends and its code once before it takes work.
        cached_runs: How many runs each cell's worker keeps in memory; one that was let go is
            replayed from its history when it goes on.
        build: Which build of the application this process is; runs stay on the build that they
            began on. Left out, any worker without a build goes on with any run.

    Raises:
        ConfigurationError: The topology has no such region, or ``listen`` cannot be read.
    """

    def __init__(
        self,
        topology: Topology,
        region: str,
        application: Application,
        *,
        listen: str | None = None,
        warm_up: bool = True,
        cached_runs: int = CACHED_RUNS,
        build: Build | None = None,
    ) -> None:
        names = [region.name for region in topology.regions]
        if region not in names:
            raise ConfigurationError(
                f"region {region!r} is not in {topology.source}; name one of {', '.join(sorted(names))}"
            )
        self.region = topology.region(region)
        self._topology = topology
        self._application = application
        self._host, self._port = _listen_address(self.region, listen)
        self._warm_up = warm_up
        self._cached_runs = cached_runs
        self._build = build
        self._warm = asyncio.Event()
        self._stopping = asyncio.Event()
        self._taken_over = asyncio.Event()
        self._services: list[CellService] = []
        self._standbys: list[Standby] = []
        self._site: Site | None = None

    def stop(self) -> None:
        """Drain: take nothing new, finish what runs, then ``run`` and ``serve`` return."""
        if not self._stopping.is_set():
            log.info("worker.draining", region=self.region.name)
            self._stopping.set()

    async def run(self) -> None:
        """Serves the region until SIGTERM or SIGINT arrives, then drains.

        Raises:
            ConfigurationError: The control endpoint cannot listen, or the application cannot be served.
        """
        with self._stop_on_signals():
            await self.serve()

    async def serve(self) -> None:
        """Serves the region until ``stop`` is called, then drains.

        Raises:
            ConfigurationError: The control endpoint cannot listen, the application cannot be served, or
                the environment asks for a telemetry exporter that is not there.
        """
        start_telemetry(WORKER_SERVICE, self.region.name)
        async with (
            piece_broker(self.region) as pieces,
            Backends(self.region) as backends,
            serving(self._control(pieces), self._host, self._port) as port,
        ):
            self._site = Site(self.region, backends, publish=pieces.publish)
            with ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="step") as executor:
                runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=HEARTBEAT)
                self._services = list(self._cell_services(self._site, runtime, executor))
                self._standbys = list(self._standing_by(self._site, runtime, executor))
                log.info("worker.started", region=self.region.name, control=f"http://{self._host}:{port}")
                warming = asyncio.create_task(self._get_warm(backends, runtime))
                watching = asyncio.create_task(self._watch_regions(self._site))
                try:
                    await self._serve_cells()
                finally:
                    warming.cancel()
                    watching.cancel()
                    await asyncio.gather(warming, watching, return_exceptions=True)
        await asyncio.to_thread(flush_telemetry)
        log.info("worker.stopped", region=self.region.name)

    def _control(self, pieces: PieceBroker) -> Starlette:
        return control_app(status=self.status, cells=self.cells, pieces=pieces, ready=self._ready)

    async def _get_warm(self, backends: Backends, runtime: Runtime) -> None:
        try:
            if self._warm_up:
                plugin = EdgewardPlugin(self._topology)
                await asyncio.gather(warm_backends(backends), warm_workflows(plugin, runtime))
        finally:
            self._warm.set()

    def _ready(self) -> bool:
        started = self._warm.is_set() and all(service.tried for service in self._services)
        return started and not self._stopping.is_set()

    async def _serve_cells(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services:
                    group.create_task(service.serve(self._stopping, self._warm))
                for standby in self._standbys:
                    group.create_task(standby.watch(self._stopping))
        except ExceptionGroup as failed:
            wrong = failed.subgroup(ConfigurationError)
            if wrong is None:
                raise
            # the same in every cell: once is enough
            raise wrong.exceptions[0] from None

    async def _watch_regions(self, site: Site) -> None:
        """Keeps what the region's runs know of the places that they send their steps to."""
        async with Fleet(self._topology, {}, viewpoint=self.region.name) as fleet:
            while True:
                states = fleet.view().region_states()
                states.pop(self.region.name, None)
                for gone in self.standing_in():
                    states[gone] = "down"  # probes find that out later
                site.health.note_states(states)
                await within(STATES_EVERY, self._taken_over)
                self._taken_over.clear()

    def _cell_services(
        self, site: Site, runtime: Runtime, executor: ThreadPoolExecutor
    ) -> Iterator[CellService]:
        for cell in self._topology.served_cells(self.region):
            yield self._cell_service(cell, site, runtime, executor)

    def _standing_by(self, site: Site, runtime: Runtime, executor: ThreadPoolExecutor) -> Iterator[Standby]:
        def services(home: Region) -> list[CellService]:
            return [
                self._cell_service(cell, site, runtime, executor, stands_in_for=home)
                for cell in self._topology.served_cells(self.region)
                if self._topology.is_served(cell, home)
            ]

        for home in self._topology.regions:
            # only a control endpoint tells in seconds that a home is gone
            if home.control is not None and self.region in self._topology.standbys(home):
                yield Standby(home, services, self._taken_over)

    def _cell_service(
        self,
        cell: str,
        site: Site,
        runtime: Runtime,
        executor: ThreadPoolExecutor,
        *,
        stands_in_for: Region | None = None,
    ) -> CellService:
        return CellService(
            self._topology.cell(cell),
            self._topology,
            self._application,
            site,
            runtime=runtime,
            executor=executor,
            cached_runs=self._cached_runs,
            build=self._build,
            stands_in_for=stands_in_for,
        )

    def status(self) -> WorkerStatus:
        """What the worker says of itself now."""
        site = self._site
        kinds = {step.kind for step in self._application.step_definitions}
        busy = site.busy if site else Counter[str]()
        times = site.times.run_times() if site else {}
        overall = site.times.all_steps(self.region.name) if site else None
        return WorkerStatus(
            region=self.region.name,
            state="draining" if self._stopping.is_set() or self._is_drained() else "up",
            queues={kind: QueueStatus(slots=slots(self.region, kind), busy=busy[kind]) for kind in kinds},
            rtt_ms={
                service.cell.region: service.rtt_ms
                for service in self._services
                if service.rtt_ms is not None
            },
            run_times=tuple(StepTime.of(step, time) for (step, _), time in times.items()),
            all_steps=overall
            and Quantiles(p50_ms=overall.p50_ms, p95_ms=overall.p95_ms, samples=overall.samples),
            away=self.away(),
        )

    def _is_drained(self) -> bool:
        """Whether an operator has drained the region. It goes on with what it gets."""
        own = (service for service in self._services if service.cell.name == self.region.cell)
        return any(self.region.name in service.draining for service in own)

    def away(self) -> dict[str, str]:
        """The regions to which its runs send no steps while others can do them, and why."""
        return self._site.health.troubled() if self._site else {}

    def standing_in(self) -> list[str]:
        """The homes whose runs it goes on with at this moment."""
        return [standby.home.name for standby in self._standbys if standby.stands_in]

    def client(self, cell: str) -> Client | None:
        """The client with which a cell is polled; None while it is not (``EdgeClient(beside=...)``)."""
        found = (service.client for service in self._services if service.cell.name == cell)
        return next(found, None)

    def cells(self) -> dict[str, str]:
        """State of each served cell."""
        return {service.cell.name: service.state for service in self._services}

    @contextmanager
    def _stop_on_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        try:
            for number in signals:
                loop.add_signal_handler(number, self.stop)
        except (NotImplementedError, RuntimeError):  # not the main thread: whoever runs us calls stop()
            yield
            return
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)


def _listen_address(region: Region, listen: str | None) -> tuple[str, int]:
    if listen is None:
        port = urlsplit(region.control).port if region.control else 0
        return "127.0.0.1", port or 0
    host, _, port_text = listen.rpartition(":")
    if not host or not port_text.isdecimal() or int(port_text) > 65535:
        raise ConfigurationError(
            f"{listen!r} is no address to listen at; write HOST:PORT, such as 127.0.0.1:8090"
        )
    return host.strip("[]"), int(port_text)
