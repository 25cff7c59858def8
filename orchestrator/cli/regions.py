"""``edgeward regions``: what the topology offers where, and taking a region out of service."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.distances import note_estimates
from orchestrator.cli.options import Output, OutputOption, TopologyOption, run_to_end, topology_of
from orchestrator.cli.output import data, table
from orchestrator.dispatch import connect_cell
from orchestrator.errors import CellUnavailableError, ConfigurationError
from orchestrator.fleet.draining import set_draining
from orchestrator.fleet.probes import ProbeError, UnsupportedError
from orchestrator.placement import Network, Snapshot
from orchestrator.topology import Cell, Region, Topology

WRITTEN_WITHIN = timedelta(seconds=10)

RegionArgument = Annotated[str, typer.Argument(help="The region's name.")]

app = typer.Typer(help="The regions of a topology.", no_args_is_help=True)


@app.callback()
def regions() -> None:
    """The regions of a topology."""


@app.command("list")
def list_regions(topology: TopologyOption = None, output: OutputOption = Output.TEXT) -> None:
    """List regions with their cells, offers, and round trip times to each other."""
    known = topology_of(topology)
    network = Network(known, Snapshot())
    note_estimates(known)
    if output is Output.JSON:
        data([_described(region, known, network) for region in known.regions])
        return
    table(
        f"{len(known.regions)} regions · {known.source}",
        ["region", "country", "jurisdictions", "cell", "to its cell ms", "serves", "offers"],
        (
            (
                region.name,
                region.country,
                ", ".join(sorted(region.jurisdictions)),
                region.cell,
                network.rtt_ms(region.name, known.cell(region.cell).region),
                ", ".join(known.served_cells(region)),
                ", ".join(str(offer.key) for offer in region.offers) or "–",
            )
            for region in known.regions
        ),
    )
    names = [region.name for region in known.regions]
    if 1 < len(names) <= 12:
        print()
        table(
            "round trip times (ms)",
            ["", *(f"{name} ms" for name in names)],
            ((a, *(network.rtt_ms(a, b) for b in names)) for a in names),
        )


@app.command()
def drain(name: RegionArgument, topology: TopologyOption = None, output: OutputOption = Output.TEXT) -> None:
    """Send new runs and steps elsewhere; what runs in the region ends there."""
    _set(name, topology, output, draining=True)


@app.command()
def undrain(
    name: RegionArgument, topology: TopologyOption = None, output: OutputOption = Output.TEXT
) -> None:
    """Let a region take new runs and steps again."""
    _set(name, topology, output, draining=False)


def _set(name: str, file: Path | None, output: Output, *, draining: bool) -> None:
    known = topology_of(file)
    if not known.has_region(name):
        names = ", ".join(region.name for region in known.regions)
        raise ConfigurationError(f"region {name!r} is not in {known.source}; name one of {names}")
    region = known.region(name)
    cell = known.cell(region.cell)
    run_to_end(_written(cell, name, draining))
    if output is Output.JSON:
        data({"region": name, "cell": cell.name, "draining": draining})
        return
    if draining:
        print(f"{name} is draining: new runs and steps go elsewhere within ten seconds, what runs there ends")
    else:
        print(f"{name} takes new runs and steps again, within ten seconds")


async def _written(cell: Cell, region: str, draining: bool) -> None:
    try:
        client = await connect_cell(cell)
        await set_draining(client, region, draining, WRITTEN_WITHIN)
    except UnsupportedError as error:
        raise ConfigurationError(
            f"cell {cell.name} does not let its namespace be changed ({error}); stop the region's workers "
            "instead: they finish what they have"
        ) from error
    except (ProbeError, RuntimeError) as error:
        raise CellUnavailableError(
            f"cell {cell.name} of region {region} does not answer: {error}; is its server running?"
        ) from error


def _described(region: Region, topology: Topology, network: Network) -> dict[str, object]:
    return {
        **region.model_dump(mode="json"),
        "jurisdictions": sorted(region.jurisdictions),
        "serves": topology.served_cells(region),
        "rtt_ms": {other.name: network.rtt_ms(region.name, other.name) for other in topology.regions},
    }
