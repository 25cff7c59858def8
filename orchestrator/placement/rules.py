"""The hard rules: they delete candidates and are never weights.

They are applied in one order: residency, needs, state, cell down, cell, inline. A region's exclusion
names the first rule that it breaks, and a set is emptied by the last rule that removed
something from it.
"""

from collections.abc import Iterable, Mapping

from orchestrator.placement.plan import Exclusion
from orchestrator.placement.snapshot import Snapshot
from orchestrator.requirements import Requirements, Residency
from orchestrator.topology import Region, Topology

ORDER = (
    "homes",
    "residency",
    "needs",
    "down",
    "draining",
    "cell down",
    "cell",
    "inline",
    "no place",
    "latency bound",
)
"""Of the rules, in the order in which they are applied."""

SHOWN = 12
"""How many exclusions a message lists."""


def exclude_place(region: Region, requirements: Requirements, snapshot: Snapshot) -> Exclusion | None:
    """Why no step with these requirements may run in the region; None if one may."""
    return (
        _residency(region, requirements.residency)
        or _needs(region, requirements)
        or exclude_by_state(region, snapshot)
    )


def exclude_home(
    region: Region, residency: Residency, cell: str, topology: Topology, snapshot: Snapshot
) -> Exclusion | None:
    """Why no run with this residency may have its home in the region; None if one may.

    The run's history is kept by its cell, so the region in which the cell's server stands must
    be permitted as well.

    Args:
        region: The home in question.
        residency: Of the run, or of the sub-agent.
        cell: The region's own cell; for a sub-agent, that of the run.
        topology: What exists.
        snapshot: What is known of the regions.
    """
    return (
        _residency(region, residency)
        or _cell_residency(topology.region(topology.cell(cell).region), cell, residency)
        or exclude_by_state(region, snapshot)
        or _cell_down(cell, snapshot)
        or exclude_by_cell(region, cell, topology)
    )


def exclude_by_cell(region: Region, cell: str, topology: Topology) -> Exclusion | None:
    """Why the region cannot work for runs of this cell; None if its workers poll there."""
    if topology.is_served(cell, region):
        return None
    return Exclusion(rule="cell", reason=f"its workers do not serve cell {cell}")


def exclude_by_state(region: Region, snapshot: Snapshot) -> Exclusion | None:
    """Why the region takes no work now; None if it does or nothing is known."""
    state = snapshot.region(region.name).state
    if state == "down":
        return Exclusion(rule="down", reason="no live worker answers")
    if state == "draining":
        return Exclusion(rule="draining", reason="it takes no new work")
    return None


def emptied_by(excluded: Iterable[Exclusion]) -> str:
    """The rule that removed the last candidates, given why each was excluded."""
    return max((exclusion.rule for exclusion in excluded), key=ORDER.index)


def summary(excluded: Mapping[str, Exclusion]) -> str:
    """``us-east: needs (lacks model "chat"); …`` for an error message."""
    shown = [
        f"{region}: {exclusion.rule} ({exclusion.reason})"
        for region, exclusion in list(excluded.items())[:SHOWN]
    ]
    if len(excluded) > SHOWN:
        shown.append(f"and {len(excluded) - SHOWN} more")
    return "; ".join(shown)


def _residency(region: Region, residency: Residency) -> Exclusion | None:
    if not residency.clauses or residency.permits(region):
        return None
    lies_in = ", ".join(sorted(region.jurisdictions))
    return Exclusion(rule="residency", reason=f"lies in {lies_in}, not in {residency}")


def _cell_residency(region: Region, cell: str, residency: Residency) -> Exclusion | None:
    if residency.permits(region):
        return None
    return Exclusion(
        rule="residency",
        reason=f"its cell {cell} keeps the history in {region.name}, not in {residency}",
    )


def _cell_down(cell: str, snapshot: Snapshot) -> Exclusion | None:
    if cell not in snapshot.cells_down:
        return None
    return Exclusion(rule="cell down", reason=f"the server of its cell {cell} does not answer")


def _needs(region: Region, requirements: Requirements) -> Exclusion | None:
    if requirements.offers <= region.offered:
        return None
    lacking = requirements.offers - region.offered
    return Exclusion(rule="needs", reason="lacks " + ", ".join(sorted(str(key) for key in lacking)))
