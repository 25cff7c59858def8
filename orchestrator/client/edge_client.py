"""Starts runs from where their users are: plan first, then start at the chosen home."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar, cast, overload

import httpx
from temporalio.client import Client, Plugin

from orchestrator.agents import AgentDefinition, agent_definition
from orchestrator.application import Application
from orchestrator.client.run import EdgeRun
from orchestrator.dispatch import RECEIPT_LIMIT, EdgewardPlugin, RunPlanner, connect_cell, starting
from orchestrator.errors import CellUnavailableError, ConfigurationError
from orchestrator.fleet import Fleet
from orchestrator.geography import Origin
from orchestrator.placement import Plan, Snapshot
from orchestrator.queues import agents_queue
from orchestrator.requirements import Objective, ResidencyLike, requirements
from orchestrator.topology import Topology, load_topology

ResultT = TypeVar("ResultT")
ArgumentT = TypeVar("ArgumentT")

TASK_TIMEOUT = timedelta(seconds=5)
"""How long the home may hold a workflow task. A crashed home is noticed after it, so it is shorter
than Temporal's 10 s; inline steps are shorter still, and longer ones extend it by themselves."""


class EdgeClient:
    """The client of a topology: it wraps one Temporal client for each cell.

    Use it as a context manager, or call ``close``.

    Example:
        >>> async with await EdgeClient.connect("topology.toml") as client:
        ...     run = await client.start(Research.run, question, origin="Lisbon")
        ...     print(await run.result(), run.plan.home)
    """

    def __init__(
        self,
        topology: Topology,
        cells: Mapping[str, Client],
        planner: RunPlanner,
        http: httpx.AsyncClient,
        resources: AsyncExitStack,
        fleet: Fleet | None,
    ) -> None:
        self.topology = topology
        self.fleet = fleet
        self._cells = cells
        self._planner = planner
        self._http = http
        self._resources = resources

    @classmethod
    async def connect(
        cls,
        topology: Topology | Path | str,
        *,
        application: Application | None = None,
        viewpoint: str | None = None,
        watch: bool = True,
        plugins: tuple[Plugin, ...] = (),
    ) -> Self:
        """A client for the cells of a topology.

        Cells are connected to when they are first used, so one that is down does not keep the
        others from working.

        Args:
            topology: What exists, or its file.
            application: Agents and steps. Needed for steps that agents call without declaring
                them, and for rules.
            viewpoint: The region that this process runs in, if it is in one.
            watch: Keep a live view of the fleet, for plans that know what is up, busy and near.
            plugins: More plugins of the Temporal clients.

        Raises:
            TopologyError: The file is not valid.
        """
        topology = topology if isinstance(topology, Topology) else load_topology(topology)
        application = application or Application()
        async with AsyncExitStack() as opening:
            http = await opening.enter_async_context(httpx.AsyncClient())
            cells: dict[str, Client] = {}
            for cell in topology.cells:
                # the plan comes from here; the plugin carries it into the start request
                plugin = EdgewardPlugin(topology, cell=cell.name)
                cells[cell.name] = await connect_cell(cell, plugins=[plugin, *plugins], lazy=True)
            fleet: Fleet | None = None
            if watch:
                kinds = {step.kind for step in application.step_definitions}
                fleet = Fleet(topology, cells, viewpoint=viewpoint, http=http, kinds=kinds)
                await opening.enter_async_context(fleet)
            planner = RunPlanner(
                topology,
                agents=application.agent_definitions,
                steps=application.step_definitions,
                rules=application.rules,
                snapshot=fleet.snapshot if fleet else Snapshot,
            )
            return cls(topology, cells, planner, http, opening.pop_all(), fleet)

    async def close(self) -> None:
        """Ends the background readings and the streams' connections."""
        await self._resources.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def plan(
        self,
        agent: type | Callable[..., Any],
        *,
        origin: str | Origin,
        residency: ResidencyLike = None,
        objective: Objective | None = None,
    ) -> Plan:
        """The plan that a run started now would have.

        Args:
            agent: The class decorated with ``@agent``, or its run method.
            origin: Where the user is: a region, a country code, ``lat,lon`` or a city.
            residency: Narrows the agent's own, for this run.
            objective: What to optimise in this run.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
        """
        return self._planner.plan(
            _definition(agent),
            origin,
            narrowed=requirements(residency=residency, objective=objective),
            limit=RECEIPT_LIMIT,
        )

    @overload
    async def start(
        self,
        agent: Callable[[Any], Awaitable[ResultT]],
        /,
        *,
        origin: str | Origin,
        residency: ResidencyLike = None,
        objective: Objective | None = None,
        id: str | None = None,
    ) -> EdgeRun[ResultT]: ...
    @overload
    async def start(
        self,
        agent: Callable[[Any, ArgumentT], Awaitable[ResultT]],
        argument: ArgumentT,
        /,
        *,
        origin: str | Origin,
        residency: ResidencyLike = None,
        objective: Objective | None = None,
        id: str | None = None,
    ) -> EdgeRun[ResultT]: ...
    async def start(
        self,
        agent: Callable[..., Awaitable[Any]],
        /,
        *arguments: Any,
        origin: str | Origin,
        residency: ResidencyLike = None,
        objective: Objective | None = None,
        id: str | None = None,
    ) -> EdgeRun[Any]:
        """Plan a run and start it at the chosen home.

        Args:
            agent: The run method of a class decorated with ``@agent``.
            arguments: What the run method takes, if anything.
            origin: Where the user is: a region, a country code, ``lat,lon`` or a city.
            residency: Narrows the agent's own, for this run.
            objective: What to optimise in this run.
            id: The workflow id; made of the agent's name and a random part if left out.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
            PayloadTooLargeError: The argument exceeds what Temporal carries.
            CellUnavailableError: The server of the chosen cell does not answer.
            temporalio.exceptions.WorkflowAlreadyStartedError: A run with this id is going on.
        """
        plan = self.plan(agent, origin=origin, residency=residency, objective=objective)
        client = self._cells[plan.cell]
        with starting(plan):
            handle = await _reached(
                plan.cell,
                client.start_workflow(
                    agent,
                    args=list(arguments),
                    id=id or f"{plan.root.agent}-{uuid.uuid4().hex}",
                    task_queue=agents_queue(plan.home),
                    task_timeout=TASK_TIMEOUT,
                ),
            )
        return EdgeRun(plan, handle, client=client, topology=self.topology, http=self._http)

    def cell(self, name: str) -> Client:
        """Temporal's own client of a cell.

        Raises:
            KeyError: The topology has no such cell.
        """
        return self._cells[name]


async def _reached(cell: str, starting: Awaitable[ResultT]) -> ResultT:
    try:
        return await starting
    except RuntimeError as error:
        # what a lazy client raises when its first call finds no server
        raise CellUnavailableError(f"cell {cell} does not answer: {error}; is its server running?") from error


def _definition(agent: type | Callable[..., Any]) -> AgentDefinition:
    definition = agent_definition(cast("type", agent))
    if definition is None:
        name = getattr(agent, "__qualname__", repr(agent))
        raise ConfigurationError(f"{name} is no agent; decorate its class with @agent")
    return definition
