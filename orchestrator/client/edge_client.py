"""Starts runs from where their users are: plan first, then start at the chosen home."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, Unpack, cast, overload

import httpx
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client, Plugin
from temporalio.service import RPCError

from orchestrator.agents import AgentDefinition, agent_definition
from orchestrator.application import Application
from orchestrator.client.admission import Admission, Admitted
from orchestrator.client.cell_watch import CellWatch
from orchestrator.client.follower import Follow, Follower
from orchestrator.client.options import RunOptions, StartOptions, SubmitOptions
from orchestrator.client.originals import Originals
from orchestrator.client.run import EdgeRun
from orchestrator.client.starts import StartTries
from orchestrator.client.stream import stream_client
from orchestrator.client.submission import StartLimits, Submission
from orchestrator.dispatch import RECEIPT_LIMIT, EdgewardPlugin, Lineage, RunPlanner, connect_cell
from orchestrator.errors import ConfigurationError
from orchestrator.fleet import Fleet
from orchestrator.geography import Origin
from orchestrator.placement import IN_ONE_REQUEST, START_THEN_RESULT, Plan, Snapshot
from orchestrator.requirements import Objective, ResidencyLike, requirements
from orchestrator.telemetry import flush_telemetry, start_telemetry
from orchestrator.telemetry.names import CLIENT_SERVICE
from orchestrator.topology import Region, Topology, load_topology

ResultT = TypeVar("ResultT")
ArgumentT = TypeVar("ArgumentT")

SETTLE = timedelta(milliseconds=50)
"""A call that was cancelled still ends on a thread of Temporal's core; if the interpreter finalizes
meanwhile, the process aborts (https://github.com/temporalio/sdk-python/issues/300). Nothing tells when
it has ended, so a client that closes gives it this long."""


class HomeWorker(Protocol):
    """The worker of a region in this process, as a client beside it sees it: ``RegionWorker``."""

    @property
    def region(self) -> Region:
        """Which region it serves."""
        ...

    def client(self, cell: str) -> Client | None:
        """Its own client of a cell; None while it has no connection."""
        ...


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
        watch: CellWatch,
        admission: Admission,
        beside: HomeWorker | None = None,
    ) -> None:
        self.topology = topology
        self.fleet = fleet
        self._cells = cells
        self._planner = planner
        self._http = http
        self._resources = resources
        self._beside = beside
        self._watch = watch
        self._admission = admission
        self._originals = Originals(cells, watch)
        self._submitted: set[asyncio.Task[Any]] = set()

    @classmethod
    async def connect(
        cls,
        topology: Topology | Path | str,
        *,
        application: Application | None = None,
        viewpoint: str | None = None,
        watch: bool = True,
        beside: HomeWorker | None = None,
        admission: bool = True,
        plugins: tuple[Plugin, ...] = (),
    ) -> Self:
        """A client for the cells of a topology.

        Cells are connected to in the background, so one that is down does not keep the others
        from working, and the first run does not wait for its connection if it comes a little later.

        Args:
            topology: What exists, or its file.
            application: Agents and steps. Needed for steps that agents call without declaring
                them, and for rules.
            viewpoint: The region that this process runs in, if it is in one.
            watch: Keep a live view of the fleet, for plans that know what is up, busy and near.
            beside: The region's worker, where it runs in this process, as in a gateway that takes
                requests next to the agents that answer them. Runs whose home is its region then
                start in the process, without waiting for a poller.
            admission: Whether runs are refused that would wait longer than their agents accept.
            plugins: More plugins of the Temporal clients.

        Raises:
            TopologyError: The file is not valid.
            ConfigurationError: The environment asks for a telemetry exporter that is not there.
        """
        start_telemetry(CLIENT_SERVICE, viewpoint or (beside.region.name if beside is not None else None))
        topology = topology if isinstance(topology, Topology) else load_topology(topology)
        application = application or Application()
        async with AsyncExitStack() as opening:
            http = await opening.enter_async_context(stream_client())
            cells: dict[str, Client] = {}
            for cell in topology.cells:
                # the plan comes from here; the plugin carries it into the start request
                plugin = EdgewardPlugin(topology, cell=cell.name)
                cells[cell.name] = await connect_cell(
                    cell, plugins=[plugin, StartTries(), *plugins], lazy=True
                )
            fleet: Fleet | None = None
            if watch:
                kinds = {step.kind for step in application.step_definitions}
                fleet = Fleet(topology, cells, viewpoint=viewpoint, http=http, kinds=kinds)
                await opening.enter_async_context(fleet)  # its probes connect
            else:
                await opening.enter_async_context(_connecting(cells))
            cell_watch = CellWatch(cells, fleet.snapshot if fleet else Snapshot)
            planner = RunPlanner(
                topology,
                agents=application.agent_definitions,
                steps=application.step_definitions,
                rules=application.rules,
                snapshot=cell_watch.snapshot,
            )
            gate = Admission(cell_watch.snapshot, enabled=admission)
            return cls(topology, cells, planner, http, opening.pop_all(), fleet, cell_watch, gate, beside)

    async def close(self) -> None:
        """Ends the background readings and the streams' connections, and waits no longer for answers.

        Runs that were submitted go on.
        """
        for answer in self._submitted:
            answer.cancel()
        await asyncio.gather(*self._submitted, return_exceptions=True)
        await self._originals.close()
        await self._watch.close()
        await self._resources.aclose()
        await asyncio.to_thread(flush_telemetry)
        await asyncio.sleep(SETTLE.total_seconds())

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
        round_trips: int = START_THEN_RESULT,
    ) -> Plan:
        """The plan that a run started now would have.

        Args:
            agent: The class decorated with ``@agent``, or its run method.
            origin: Where the user is: a region, a country code, ``lat,lon`` or a city.
            residency: Narrows the agent's own, for this run.
            objective: What to optimise in this run.
            round_trips: From the user to the cell: ``IN_ONE_REQUEST`` for a run that is submitted.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
        """
        return self._planner.plan(
            _definition(agent),
            origin,
            narrowed=requirements(residency=residency, objective=objective),
            round_trips=round_trips,
            limit=RECEIPT_LIMIT,
        )

    @overload
    async def start(
        self,
        agent: Callable[[Any], Awaitable[ResultT]],
        /,
        **options: Unpack[StartOptions],
    ) -> EdgeRun[ResultT]: ...
    @overload
    async def start(
        self,
        agent: Callable[[Any, ArgumentT], Awaitable[ResultT]],
        argument: ArgumentT,
        /,
        **options: Unpack[StartOptions],
    ) -> EdgeRun[ResultT]: ...
    async def start(
        self,
        agent: Callable[..., Awaitable[Any]],
        /,
        *arguments: Any,
        **options: Unpack[StartOptions],
    ) -> EdgeRun[Any]:
        """Plan a run and start it at the chosen home.

        Args:
            agent: The run method of a class decorated with ``@agent``.
            arguments: What the run method takes, if anything.
            options: See ``StartOptions``: ``origin``, ``residency``, ``objective``, ``id``, ``deadline``,
                ``budget``, ``tenant``, ``weight``.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
            AdmissionRefusedError: Where it would run is full; says when to try again. Nothing was sent.
            PayloadTooLargeError: The argument exceeds what Temporal carries.
            CellUnavailableError: No cell that the run may use answers; or the chosen one got the request
                and did not confirm it, and the agent does not allow a restart elsewhere.
            temporalio.exceptions.WorkflowAlreadyStartedError: A run with this id is going on.
        """
        follower, admitted = self._admitted(agent, arguments, RunOptions(**options), START_THEN_RESULT)
        try:
            await follower.start()
        except BaseException:
            admitted.leave(None, cancelled=True)
            raise
        return self._run(follower, admitted)

    @overload
    def submit(
        self,
        agent: Callable[[Any], Awaitable[ResultT]],
        /,
        **options: Unpack[SubmitOptions],
    ) -> EdgeRun[ResultT]: ...
    @overload
    def submit(
        self,
        agent: Callable[[Any, ArgumentT], Awaitable[ResultT]],
        argument: ArgumentT,
        /,
        **options: Unpack[SubmitOptions],
    ) -> EdgeRun[ResultT]: ...
    def submit(
        self,
        agent: Callable[..., Awaitable[Any]],
        /,
        *arguments: Any,
        **options: Unpack[SubmitOptions],
    ) -> EdgeRun[Any]:
        """Plan a run and send it off; its answer comes by the shortest way.

        Unlike ``start`` it does not wait until the cell has accepted the run: start and answer
        are one request, so that the user waits for one round trip instead of two, and the run's
        stream can be opened meanwhile. ``result()`` raises what ``start`` would have raised. A
        caller that goes away before the request has reached the cell has started nothing.

        With ``early`` the answer comes from the home's worker, if this client is ``beside`` it, before the
        cell has written it: some ten milliseconds sooner. If that process ends within them, the run goes on
        elsewhere from what was written, inline steps run again, and what history holds at last
        (``EdgeRun.recorded``) may differ from the answer that was given. Without a worker beside it changes
        nothing.

        Args:
            agent: The run method of a class decorated with ``@agent``.
            arguments: What the run method takes, if anything.
            options: See ``SubmitOptions``: those of ``start``, and ``early``.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
            AdmissionRefusedError: Where it would run is full; says when to try again. Nothing was sent.
        """
        chosen = RunOptions(**options)
        follower, admitted = self._admitted(agent, arguments, chosen, IN_ONE_REQUEST)
        answer = asyncio.create_task(follower.answer(early=chosen.early))
        self._submitted.add(answer)
        answer.add_done_callback(self._submitted.discard)
        return self._run(follower, admitted, answer)

    @overload
    async def execute(
        self,
        agent: Callable[[Any], Awaitable[ResultT]],
        /,
        **options: Unpack[SubmitOptions],
    ) -> ResultT: ...
    @overload
    async def execute(
        self,
        agent: Callable[[Any, ArgumentT], Awaitable[ResultT]],
        argument: ArgumentT,
        /,
        **options: Unpack[SubmitOptions],
    ) -> ResultT: ...
    async def execute(
        self,
        agent: Callable[..., Awaitable[Any]],
        /,
        *arguments: Any,
        **options: Unpack[SubmitOptions],
    ) -> Any:
        """``submit``, then the answer.

        Args:
            agent: The run method of a class decorated with ``@agent``.
            arguments: What the run method takes, if anything.
            options: As ``submit`` takes them.

        Raises:
            ConfigurationError: It is no agent.
            UnknownOriginError: The origin means nothing.
            PlacementError: No home, or a step has no place; names the rule.
            AdmissionRefusedError: Where it would run is full; says when to try again. Nothing was sent.
            PayloadTooLargeError: The argument exceeds what Temporal carries.
            CellUnavailableError: No cell that the run may use answers.
            temporalio.client.WorkflowFailureError: The run failed.
        """
        return await self.submit(agent, *arguments, **options).result()

    def _admitted(
        self,
        agent: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        options: RunOptions,
        round_trips: int,
    ) -> tuple[Follower, Admitted]:
        """A run that is planned and may be sent."""
        definition = _definition(agent)
        follower = self._follower(agent, arguments, definition, options, round_trips)
        longest_wait = definition.longest_wait
        if options.deadline is not None:
            longest_wait = min(longest_wait, options.deadline)
        return follower, self._admission.admit(follower.submission.plan, longest_wait)

    def _follower(
        self,
        agent: Callable[..., Awaitable[Any]],
        arguments: tuple[Any, ...],
        definition: AgentDefinition,
        options: RunOptions,
        round_trips: int,
    ) -> Follower:
        run_id = options.id or f"{definition.name}-{uuid.uuid4().hex}"
        limits = StartLimits.of(definition, options)
        planned = partial(
            self.plan,
            agent,
            origin=options.origin,
            residency=options.residency,
            objective=options.objective,
            round_trips=round_trips,
        )

        def submission(plan: Plan, *, lineage: Lineage | None, once: bool) -> Submission:
            beside = self._beside
            client = beside.client(plan.cell) if beside and beside.region.name == plan.home else None
            at_home = client is not None
            return Submission(
                client or self._cells[plan.cell],
                plan,
                agent,
                arguments,
                run_id,
                limits,
                at_home,
                lineage,
                once,
            )

        return Follower(
            Follow(
                plan=planned,
                submission=submission,
                watch=self._watch,
                originals=self._originals,
                restarts=definition.on_cell_loss == "restart",
                own_id=options.id is None,
            )
        )

    def _run(
        self, follower: Follower, admitted: Admitted, answer: asyncio.Task[Any] | None = None
    ) -> EdgeRun[Any]:
        return EdgeRun(follower, topology=self.topology, http=self._http, admitted=admitted, answer=answer)

    def cell(self, name: str) -> Client:
        """Temporal's own client of a cell.

        Raises:
            KeyError: The topology has no such cell.
        """
        return self._cells[name]


@asynccontextmanager
async def _connecting(cells: Mapping[str, Client]) -> AsyncGenerator[None]:
    connecting = [asyncio.create_task(_connect(client)) for client in cells.values()]
    try:
        yield
    finally:
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)


async def _connect(client: Client) -> None:
    # one that is away is said by the first run that needs it
    with contextlib.suppress(RuntimeError, RPCError):
        await client.workflow_service.get_system_info(GetSystemInfoRequest())


def _definition(agent: type | Callable[..., Any]) -> AgentDefinition:
    definition = agent_definition(cast("type", agent))
    if definition is None:
        name = getattr(agent, "__qualname__", repr(agent))
        raise ConfigurationError(f"{name} is no agent; decorate its class with @agent")
    return definition
