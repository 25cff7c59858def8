"""What a user calls in each of the ways, from where the user is."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import WorkflowIDConflictPolicy

from orchestrator.application import Application
from orchestrator.client import EdgeClient
from orchestrator.dev.stack import rtt_ms_from, view_from
from orchestrator.dev.ways.agents import STEPS, Apart, Calling, Job, Together, Workload, application
from orchestrator.dev.ways.workers import AGENTS_QUEUE, FAR_QUEUE, connected, edge_queue
from orchestrator.geography import Origin
from orchestrator.topology import Topology


class Way(NamedTuple):
    """A way to run the agent, in words for people."""

    name: str
    about: str
    """Where what is; with ``{near}`` and ``{central}`` for the names of regions."""


WAYS: Mapping[str, Way] = {
    "a": Way("all central", "all in {central}; steps are local activities"),
    "b": Way("agent near, services central", "agent in {near}; its steps call {central} over HTTP"),
    "b queued": Way(
        "agent near, steps central", "agent in {near}; a worker in {central} polls for its steps"
    ),
    "c": Way("one Temporal, edge queues", "agent and Temporal in {central}; steps on queues in {near}"),
    "d": Way("Edgeward", "placed by Edgeward, with everything in every region"),
    "by hand": Way("plain Temporal in the right place", "all in {near}; steps are local activities"),
}
"""By the letters of the wan bench. (b) has two forms; the first is the faster one. The last is no way that
anybody offers: the least that (d) could take on a Temporal server, if somebody placed each run by hand."""


@dataclass(frozen=True)
class Leg:
    """Round trips that a run needs, on paper."""

    count: int
    kind: str
    """``user–centre``, ``user–region`` or ``region–centre``."""

    between: str
    """The same with names: ``user–us-east``."""

    rtt_ms: float

    def __str__(self) -> str:
        """``5 × eu-central–us-east``."""
        return f"{self.count} × {self.between}"


@dataclass(frozen=True)
class Answer:
    """What a way gave for a question."""

    text: str
    legs: tuple[Leg, ...]

    @property
    def network_ms(self) -> float:
        """What the round trips take, on paper."""
        return sum(leg.count * leg.rtt_ms for leg in self.legs)


Ask = Callable[[Workload, str], Awaitable[Answer]]
"""Given what the services take and the question."""


def nearest_region(topology: Topology, origin: Origin) -> str:
    """The region with the shortest round trip from the origin."""
    rtt_ms = rtt_ms_from(topology, origin)
    return min((region.name for region in topology.regions), key=rtt_ms)


@contextlib.asynccontextmanager
async def user(
    origin: Origin, topology: Topology, central: str, served_by_edgeward: Application = application
) -> AsyncGenerator[Mapping[str, Ask]]:
    """A user's ways to ask, by the letters of ``WAYS``; ``workers`` have to run.

    Args:
        origin: Where the user is.
        topology: With the true addresses, a cell a region.
        central: The region that has everything which is not near the user.
        served_by_edgeward: Agents and steps of Edgeward's own workers.

    Raises:
        CellUnavailableError: A cell does not answer.
    """
    near = nearest_region(topology, origin)
    rtt_ms = rtt_ms_from(topology, origin)
    to_centre = Leg(1, "user–centre", f"user–{central}", rtt_ms(central))
    to_near = Leg(1, "user–region", f"user–{near}", rtt_ms(near))
    inside = near == central
    apart = Leg(
        len(STEPS), "region–centre", f"{near}–{central}", 0.0 if inside else topology.rtt_ms(near, central)
    )
    async with (
        view_from(topology, origin) as seen,
        await EdgeClient.connect(seen, application=served_by_edgeward, watch=False) as edge,
    ):
        centre_client = await connected(seen, central)
        near_client = centre_client if inside else await connected(seen, near)

        def plainly(client: Client, way: type, legs: tuple[Leg, ...], steps_queue: str = "") -> Ask:
            async def ask(workload: Workload, question: str) -> Answer:
                job = Job(question=question, service_ms=dict(workload.service_ms), steps_queue=steps_queue)
                return Answer(await _ask_plainly(client, way, job), legs)

            return ask

        async def placed(workload: Workload, question: str) -> Answer:
            run = edge.submit(workload.agent, question, origin=origin)
            home = run.plan.home
            return Answer(await run.result(), (Leg(1, "user–region", f"user–{home}", rtt_ms(home)),))

        yield {
            "a": plainly(centre_client, Together, (to_centre,)),
            "b": plainly(near_client, Calling, (to_near, apart)),
            "b queued": plainly(near_client, Apart, (to_near, apart), FAR_QUEUE),
            "c": plainly(centre_client, Apart, (to_centre, apart), edge_queue(near)),
            "d": placed,
            "by hand": plainly(near_client, Together, (to_near,)),
        }


async def _ask_plainly(client: Client, way: Any, job: Job) -> str:
    """Start a run and wait for its answer in one request: half of what start and result take."""
    starting: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        way.run,
        job,
        id=f"{way.__name__}-{uuid.uuid4().hex}",
        task_queue=AGENTS_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    try:
        return await client.execute_update_with_start_workflow(  # pyright: ignore[reportUnknownMemberType] -- an untyped overload of the SDK
            way.answer, start_workflow_operation=starting
        )
    except WorkflowUpdateRPCTimeoutOrCancelledError as error:
        with contextlib.suppress(asyncio.CancelledError, WorkflowUpdateRPCTimeoutOrCancelledError):
            await starting.workflow_handle()  # has the error too, and would complain that nobody asked
        # the SDK makes this of a cancellation, and whoever interrupts waits for the cancellation
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from error
        raise
