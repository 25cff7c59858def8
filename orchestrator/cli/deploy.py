"""``edgeward deploy``: which build of the workers takes new runs, region by region."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer
from temporalio.client import Client

from orchestrator.cli.options import Output, OutputOption, TopologyOption, run_to_end, topology_of
from orchestrator.cli.output import data, note, table
from orchestrator.dispatch import (
    DEFAULT_DEPLOYMENT,
    BuildStatus,
    builds_of,
    connect_cell,
    deployment_name,
    set_current,
)
from orchestrator.errors import CellUnavailableError, ConfigurationError, DeploymentError, EdgewardError
from orchestrator.topology import Topology

app = typer.Typer(help="Builds of workers.", no_args_is_help=True)

DeploymentOption = Annotated[
    str,
    typer.Option(
        "--deployment", envvar="EDGEWARD_DEPLOYMENT", help="What the deployments' names begin with."
    ),
]
RegionsOption = Annotated[
    list[str] | None, typer.Option("--region", "-r", help="Of this region; may be given more than once.")
]


@app.callback()
def deploy() -> None:
    """Builds of workers."""


@app.command("list")
def list_builds(
    region: RegionsOption = None,
    topology: TopologyOption = None,
    deployment: DeploymentOption = DEFAULT_DEPLOYMENT,
    output: OutputOption = Output.TEXT,
) -> None:
    """List the builds of each region that each cell knows, and which of them takes new runs."""
    known = topology_of(topology)
    pairs = _pairs(known, region or [one.name for one in known.regions])
    found = run_to_end(_each(known, pairs, builds_of, deployment))
    rows = [
        {"region": place, "cell": cell, "build": status.build, "state": status.state}
        for (place, cell), statuses in found.items()
        if isinstance(statuses, list)
        for status in statuses
    ]
    if output is Output.JSON:
        data(rows)
    else:
        table(
            f"{len(rows)} builds · {known.source}",
            ["region", "cell", "build", "state"],
            [tuple(row.values()) for row in rows],
        )
    _note_failures(found)


@app.command("set-current")
def make_current(
    build: Annotated[str, typer.Argument(help="The id that its workers were started with.")],
    region: RegionsOption = None,
    everywhere: Annotated[bool, typer.Option("--all", help="Of all regions.")] = False,
    ignore_missing_queues: Annotated[
        bool,
        typer.Option("--ignore-missing-queues", help="Even if it lacks a queue of the current build."),
    ] = False,
    topology: TopologyOption = None,
    deployment: DeploymentOption = DEFAULT_DEPLOYMENT,
) -> None:
    """Send new runs to a build, in every cell that the regions serve. Runs that go on stay on theirs."""
    if everywhere == bool(region):
        raise ConfigurationError("say which regions: --region NAME, once or more, or --all")
    known = topology_of(topology)
    pairs = _pairs(known, region or [one.name for one in known.regions])

    async def change(client: Client, name: str) -> list[BuildStatus]:
        await set_current(client, name, build, ignore_missing_queues=ignore_missing_queues)
        return []

    found = run_to_end(_each(known, pairs, change, deployment))
    for (place, cell), outcome in found.items():
        if isinstance(outcome, list):
            note(f"region {place}, cell {cell}: {build} is current")
    if _note_failures(found):
        raise DeploymentError(f"build {build} is not current everywhere; correct what is noted and try again")


def _pairs(topology: Topology, regions: Sequence[str]) -> list[tuple[str, str]]:
    for name in regions:
        if not topology.has_region(name):
            known = ", ".join(sorted(region.name for region in topology.regions))
            raise ConfigurationError(f"region {name!r} is not in {topology.source}; name one of {known}")
    return [(name, cell) for name in regions for cell in topology.served_cells(topology.region(name))]


async def _each(
    topology: Topology,
    pairs: Sequence[tuple[str, str]],
    ask: Callable[[Client, str], Awaitable[list[BuildStatus]]],
    deployment: str,
) -> dict[tuple[str, str], list[BuildStatus] | EdgewardError]:
    """What each pair of region and cell answers, or why it does not."""
    cells = {cell for _, cell in pairs}
    clients = {cell: await connect_cell(topology.cell(cell), lazy=True) for cell in cells}

    async def asked(region: str, cell: str) -> list[BuildStatus] | EdgewardError:
        try:
            return await ask(clients[cell], deployment_name(region, deployment))
        except (CellUnavailableError, DeploymentError) as error:
            return error

    answers = await asyncio.gather(*(asked(region, cell) for region, cell in pairs))
    return dict(zip(pairs, answers, strict=True))


def _note_failures(found: dict[tuple[str, str], list[BuildStatus] | EdgewardError]) -> bool:
    failed = {pair: outcome for pair, outcome in found.items() if isinstance(outcome, EdgewardError)}
    for (place, cell), error in failed.items():
        note(f"region {place}, cell {cell}: {error}")
    return bool(failed)
