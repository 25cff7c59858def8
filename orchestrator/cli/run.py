"""``edgeward run``: one run of an agent, from where its user is."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from orchestrator.application import Application, load_application
from orchestrator.cli.conversation import client_at, converse, finished
from orchestrator.cli.distances import coordinates_of, note_estimates, origin_of
from orchestrator.cli.inputs import argument, read_input
from orchestrator.cli.options import (
    DEFAULT_FOLDER,
    FolderOption,
    OriginOption,
    Output,
    OutputOption,
    ResidencyOption,
    ServedAppOption,
    TopologyOption,
    found_stack,
    run_to_end,
)
from orchestrator.cli.output import data
from orchestrator.cli.plan import DEFAULT_APP
from orchestrator.client import EdgeClient
from orchestrator.dev import running_stack
from orchestrator.geography import Origin
from orchestrator.telemetry import configure_logging
from orchestrator.temporal_seams import workflow_run
from orchestrator.topology import Topology, load_topology


def run(
    agent: str,
    origin: OriginOption,
    text: Annotated[
        str | None, typer.Option("--input", "-i", help="Text, a JSON object, or - for standard input.")
    ] = None,
    residency: ResidencyOption = None,
    application: ServedAppOption = None,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """Run an agent for a user at an origin, and show where each step ran.

    Runs against the embedded stack that `edgeward up` has started, with the distance from the
    origin to each region emulated; or against the cells of a topology (--topology).
    """
    configure_logging(level=logging.WARNING)
    loaded = load_application(application or _default_app(topology, folder))
    cls = loaded.agent(agent)
    arguments = argument(cls, read_input(text))
    run_to_end(_run(loaded, cls, arguments, origin, residency, topology, folder, output))


async def _run(
    application: Application,
    agent: type,
    arguments: list[Any],
    origin: str,
    residency: str | None,
    topology: Path | None,
    folder: Path,
    output: Output,
) -> None:
    known = load_topology(topology or running_stack(folder).topology)
    user = origin_of(origin, coordinates_of(known))
    note_estimates(known, user)
    async with _connected(application, user, known, emulated=topology is None) as client:
        if output is Output.TEXT:
            await converse(client, agent, arguments, origin=user, residency=residency)
            return
        method = cast("Any", workflow_run(agent))
        started = await client.start(method, *arguments, origin=user, residency=residency)
        result = await finished(started)
        data(
            {
                "workflow_id": started.id,
                "run_id": started.run_id,
                "home": started.plan.home,
                "cell": started.plan.cell,
                "predicted_ms": started.plan.latency_ms,
                "result": result,
                "steps": await started.steps(),
            }
        )


@asynccontextmanager
async def _connected(
    application: Application, origin: Origin, topology: Topology, *, emulated: bool
) -> AsyncGenerator[EdgeClient]:
    connecting = (
        client_at(origin, topology, application)
        if emulated
        else await EdgeClient.connect(topology, application=application)
    )
    async with connecting as client:
        yield client


def _default_app(topology: Path | None, folder: Path) -> str:
    """The application that the running stack serves, else the agents that ship."""
    stack = found_stack(folder) if topology is None else None
    return (stack.app if stack else None) or DEFAULT_APP
