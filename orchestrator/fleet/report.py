"""The view for people and programs: a line for each region and cell, with the reason where one is down."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from orchestrator.fleet.readings import CellReading, ControlEndpointReading, ProbeState
from orchestrator.fleet.status import StepTime
from orchestrator.fleet.view import View
from orchestrator.placement import Snapshot
from orchestrator.placement.snapshot import RegionState
from orchestrator.topology import Cell, Region


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class RegionReport(_Value):
    """One region as the view has it. None where nothing tells."""

    region: str
    state: RegionState
    reason: str | None
    """Why it is down, or why its control endpoint did not answer the latest probe; None if it did."""

    avoided_by: Mapping[str, str]
    """Regions whose runs send no steps here while others can do them, and why."""

    cell: str
    slots: int | None
    """Of all kinds of steps."""

    busy: int | None
    backlog: int | None
    """Steps that wait for a slot, over the cells that the region serves."""

    rtt_ms: float | None
    """From here to its worker."""

    p50_ms: float | None
    """Of the bodies of all steps that its worker ran in the last half hour."""

    p95_ms: float | None
    steps: tuple[StepTime, ...]
    """The same for each step."""


class CellReport(_Value):
    """One cell as the view has it."""

    cell: str
    region: str
    state: ProbeState
    reason: str | None
    rtt_ms: float | None
    """From here to its server."""


class FleetReport(_Value):
    """All regions and cells at one moment."""

    taken_at: datetime
    regions: tuple[RegionReport, ...]
    cells: tuple[CellReport, ...]


def report(view: View) -> FleetReport:
    """What the view says, with this process's own round trip times, wherever it stands."""
    snapshot = view.snapshot()
    return FleetReport(
        taken_at=view.now,
        regions=tuple(_region(region, view, snapshot) for region in view.topology.regions),
        cells=tuple(_cell(cell, view) for cell in view.topology.cells),
    )


def _region(region: Region, view: View, snapshot: Snapshot) -> RegionReport:
    reading = snapshot.region(region.name)
    queues = reading.queues.values()
    slots = [queue.slots for queue in queues if queue.slots is not None]
    control = view.readings.controls.get(region.name, ControlEndpointReading())
    all_steps = control.status.all_steps if control.status and reading.state != "down" else None
    return RegionReport(
        region=region.name,
        state=reading.state,
        reason=control.liveness.reason or _silent(region, reading.state),
        avoided_by=view.avoided_by(region.name),
        cell=region.cell,
        slots=sum(slots) if slots else None,
        busy=sum(queue.busy for queue in queues) if slots else None,
        backlog=sum(queue.backlog for queue in queues) if queues else None,
        rtt_ms=control.round_trips.rtt_ms(view.now, view.window),
        p50_ms=all_steps.p50_ms if all_steps else None,
        p95_ms=all_steps.p95_ms if all_steps else None,
        steps=tuple(
            StepTime.of(step, run_time)
            for (step, place), run_time in sorted(snapshot.run_times.items())
            if place == region.name
        ),
    )


def _silent(region: Region, state: RegionState) -> str | None:
    if state == "down" and region.control is None:
        return "no worker of it beats or polls any more"
    return None


def _cell(cell: Cell, view: View) -> CellReport:
    reading = view.readings.cells.get(cell.name, CellReading())
    return CellReport(
        cell=cell.name,
        region=cell.region,
        state=view.cell_states()[cell.name],
        reason=reading.liveness.reason,
        rtt_ms=reading.round_trips.rtt_ms(view.now, view.window),
    )
