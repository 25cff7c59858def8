"""``edgeward up`` and ``edgeward demo``: the embedded stack."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from orchestrator.application import Application, load_application
from orchestrator.cli.comparison import show_comparison
from orchestrator.cli.conversation import client_at, converse
from orchestrator.cli.distances import coordinates_of, origin_of
from orchestrator.cli.inputs import argument
from orchestrator.cli.options import DEFAULT_FOLDER, FolderOption, run_to_end
from orchestrator.cli.output import note, table
from orchestrator.cli.plan import DEFAULT_APP
from orchestrator.dev import DEFAULT_REGIONS, PLACES, Stack, StackOptions
from orchestrator.errors import ConfigurationError
from orchestrator.geography import Origin
from orchestrator.telemetry import configure_logging
from orchestrator.topology import Topology

RegionsOption = Annotated[
    str, typer.Option("--regions", help="Regions to start, separated by commas (`edgeward regions list`).")
]
ApplicationOption = Annotated[
    str, typer.Option("--app", "-a", envvar="EDGEWARD_APP", help="What the workers run, as module:attribute.")
]
DatabaseOption = Annotated[
    Path | None,
    typer.Option("--db", help="Folder in which the Temporal servers keep their runs. Default: in memory."),
]
DocsOption = Annotated[
    list[Path] | None,
    typer.Option("--docs", help="Markdown file or folder for the handbook. Default: README.md and docs/."),
]
PortOption = Annotated[
    int,
    typer.Option(
        "--port", help="First of the ports that the stack takes; 0: any free ones.", min=0, max=65000
    ),
]


UserOption = Annotated[
    str,
    typer.Option(
        "--origin", help="Where the user of the closing comparison is: a country code, lat,lon or a city."
    ),
]
SamplesOption = Annotated[
    int, typer.Option("--samples", help="Runs of each way in the comparison; 0: without it.", min=0, max=1000)
]


class Question(NamedTuple):
    """One run of the demo."""

    agent: str
    origin: str
    input: str
    residency: str | None = None


DEMO = (
    Question("research", "Lisbon", "What is the home of a run?"),
    Question("research", "Singapore", "What is an offer?"),
    Question("research", "New York", "What does residency mean?", residency="EU"),
    Question("react", "Berlin", "How far is it from Lisbon to Tokyo in kilometres?"),
    Question("panel", "Jakarta", "How many people live in Singapore?"),
    Question("personalise", "Chicago", "c-102"),
)
"""Real questions from four continents: the shipped agents answer them from Edgeward's own documentation."""


def up(
    regions: RegionsOption = ",".join(DEFAULT_REGIONS),
    application: ApplicationOption = DEFAULT_APP,
    database: DatabaseOption = None,
    docs: DocsOption = None,
    port: PortOption = 7400,
    folder: FolderOption = DEFAULT_FOLDER,
) -> None:
    """Start the embedded stack and keep it up until Ctrl-C.

    A Temporal server, a vector index and a worker for each region, a language model, tools;
    between the regions the round trip times of real ones. `edgeward run` talks to it.
    """
    configure_logging(level=logging.WARNING)
    agent = next(iter(load_application(application).agent_definitions), "AGENT")
    options = StackOptions(
        regions=_names(regions),
        app=application,
        persist=database,
        docs=tuple(docs) if docs else None,
        first_port=port,
        directory=folder,
        ui=True,
    )
    run_to_end(_up(options, agent))


async def _up(options: StackOptions, agent: str) -> None:
    async with Stack(options, progress=note) as stack:
        _print_cells(stack.topology)
        print(f"\nAsk:  edgeward run {agent} --origin Lisbon --input 'What is the home of a run?'")
        print("Stop: Ctrl-C", flush=True)
        await _interrupted(stack)


def demo(
    regions: RegionsOption = ",".join(DEFAULT_REGIONS),
    folder: FolderOption = DEFAULT_FOLDER / "demo",
    origin: UserOption = DEMO[0].origin,
    samples: SamplesOption = 7,
) -> None:
    """Start the embedded stack on free ports, ask real questions from around the world, and stop it.

    At the end the same agent runs in four ways for the user at --origin: all central, half and half,
    on edge queues, and placed by Edgeward; a table and bars show how long each took.
    """
    configure_logging(level=logging.WARNING)
    application = load_application(DEFAULT_APP)
    names = _names(regions)
    user = origin_of(origin, {name: PLACES[name].coordinates for name in names})
    options = StackOptions(regions=names, app=DEFAULT_APP, directory=folder, ui=True)
    run_to_end(_demo(application, options, user, samples))


async def _demo(application: Application, options: StackOptions, user: Origin, samples: int) -> None:
    async with Stack(options, progress=note) as stack:
        _print_cells(stack.topology)
        for question in DEMO:
            await _ask(application, stack.topology, question)
        if samples:
            await show_comparison(stack.topology, user, samples=samples)


async def _ask(application: Application, topology: Topology, question: Question) -> None:
    agent = application.agent(question.agent)
    arguments: list[Any] = argument(agent, question.input)
    bound = f" · residency {question.residency}" if question.residency else ""
    print(f"\n━━ {question.agent} · from {question.origin}{bound} · {question.input}", flush=True)
    user = origin_of(question.origin, coordinates_of(topology))
    async with client_at(user, topology, application) as client:
        await converse(client, agent, arguments, origin=user, residency=question.residency)


def _print_cells(topology: Topology) -> None:
    print()
    table(
        "cells",
        ["cell", "region", "address", "Temporal UI"],
        ((cell.name, cell.region, cell.address, cell.ui) for cell in topology.cells),
    )


async def _interrupted(stack: Stack) -> None:
    """Returns on SIGTERM, and raises if a part of the stack dies; Ctrl-C cancels it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    failing = asyncio.create_task(stack.failure())
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([failing, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise failing.result()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        for task in (failing, stopped):
            task.cancel()
        await asyncio.gather(failing, stopped, return_exceptions=True)


def _names(regions: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in regions.split(",") if name.strip())
    for name in names or ("",):
        if name not in PLACES:
            raise ConfigurationError(f"unknown region {name!r} in --regions; choose from {', '.join(PLACES)}")
    return names
