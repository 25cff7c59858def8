"""The hard rules: they delete candidates and are never weights."""

from collections.abc import Iterable

from orchestrator.placement.plan import Exclusion
from orchestrator.placement.snapshot import Snapshot
from orchestrator.requirements import Requirements
from orchestrator.topology import Region, Topology


def exclude_place(
    region: Region, requirements: Requirements, topology: Topology, snapshot: Snapshot
) -> Exclusion | None:
    """Why no step with these requirements may run in the region; None if one may."""
    return _state(region, snapshot) or _residency(region, requirements) or _needs(region, requirements)


def exclude_home(
    region: Region, requirements: Requirements, topology: Topology, snapshot: Snapshot
) -> Exclusion | None:
    """Why no run with these requirements may have its home in the region; None if one may.

    A home brings its cell: the history is kept there, so the region in which the cell's server
    stands must be permitted as well.
    """
    excluded = _state(region, snapshot) or _residency(region, requirements)
    if excluded:
        return excluded
    cell = topology.cell(region.cell)
    return _cell_residency(topology.region(cell.region), cell.name, requirements)


def exclude_by_cell(region: Region, cell: str, topology: Topology) -> Exclusion | None:
    """Why the region cannot work for runs of this cell; None if its workers poll there."""
    if cell in topology.served_cells(region):
        return None
    return Exclusion(rule="cell", reason=f"its workers do not serve cell {cell}")


def summary(excluded: Iterable[tuple[str, Exclusion]]) -> str:
    """``us-east: needs (lacks model "chat"); …`` for an error message."""
    return "; ".join(f"{region}: {exclusion.rule} ({exclusion.reason})" for region, exclusion in excluded)


def _state(region: Region, snapshot: Snapshot) -> Exclusion | None:
    state = snapshot.region(region.name).state
    if state == "down":
        return Exclusion(rule="down", reason="no live worker answers")
    if state == "draining":
        return Exclusion(rule="draining", reason="it takes no new work")
    return None


def _residency(region: Region, requirements: Requirements) -> Exclusion | None:
    if requirements.residency.permits(region):
        return None
    lies_in = ", ".join(sorted(region.jurisdictions))
    return Exclusion(rule="residency", reason=f"lies in {lies_in}, not in {requirements.residency}")


def _cell_residency(region: Region, cell: str, requirements: Requirements) -> Exclusion | None:
    if requirements.residency.permits(region):
        return None
    return Exclusion(
        rule="residency",
        reason=f"its cell {cell} keeps the history in {region.name}, not in {requirements.residency}",
    )


def _needs(region: Region, requirements: Requirements) -> Exclusion | None:
    lacking = requirements.offers - {offer.key for offer in region.offers}
    if not lacking:
        return None
    return Exclusion(rule="needs", reason="lacks " + ", ".join(sorted(str(key) for key in lacking)))
