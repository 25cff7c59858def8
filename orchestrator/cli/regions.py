"""``edgeward regions``: what the topology offers where."""

import typer

from orchestrator.cli.distances import note_estimates
from orchestrator.cli.options import Output, OutputOption, TopologyOption, topology_of
from orchestrator.cli.output import data, table
from orchestrator.placement import Network, Snapshot
from orchestrator.topology import Region, Topology

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


def _described(region: Region, topology: Topology, network: Network) -> dict[str, object]:
    return {
        **region.model_dump(mode="json"),
        "jurisdictions": sorted(region.jurisdictions),
        "serves": topology.served_cells(region),
        "rtt_ms": {other.name: network.rtt_ms(region.name, other.name) for other in topology.regions},
    }
