"""``edgeward top``: the regions as they are now."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from orchestrator.cli.durations import duration_of
from orchestrator.cli.options import (
    DEFAULT_FOLDER,
    FolderOption,
    Output,
    OutputOption,
    TopologyOption,
    run_to_end,
    topology_of,
)
from orchestrator.cli.output import PIPE_WIDTH, data_line, drawn_table
from orchestrator.dispatch import connect_cell
from orchestrator.errors import ConfigurationError
from orchestrator.fleet import Fleet
from orchestrator.fleet.report import FleetReport, RegionReport, report
from orchestrator.placement.profile import PRIORS
from orchestrator.telemetry import configure_logging
from orchestrator.topology import Topology

MOST_PROBES = 3
"""Failures in a row after which something counts as down: so often ``--once`` asks what fails."""

SHORTEST = timedelta(milliseconds=200)


class SortBy(StrEnum):
    """By what the regions are ordered; ``topology``: as in its file."""

    TOPOLOGY = "topology"
    REGION = "region"
    STATE = "state"
    BUSY = "busy"
    BACKLOG = "backlog"
    RTT = "rtt"
    P50 = "p50"
    P95 = "p95"


def top(
    every: Annotated[
        str, typer.Option("--every", help="Time between two refreshes, such as 2s or 500ms.")
    ] = "1s",
    once: Annotated[bool, typer.Option("--once", help="Show the state once, and end.")] = False,
    sort: Annotated[
        SortBy, typer.Option("--sort", help="Order of the regions; numbers with the largest first.")
    ] = SortBy.TOPOLOGY,
    region: Annotated[
        list[str] | None, typer.Option("--region", "-r", help="Only this region; may be repeated.")
    ] = None,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """Watch the regions: slots, backlog, round trip times, times of steps, states.

    Ends with q or Ctrl-C. With --output json, and where the output is no terminal, it writes one
    refresh after another: JSON lines, or plain tables.
    """
    # what changes is in the table; a line of a log would tear it
    configure_logging(level=logging.ERROR)
    known = topology_of(topology, folder)
    run_to_end(_top(known, _interval(every), once, sort, _chosen(known, region), output))


async def _top(
    topology: Topology, every: timedelta, once: bool, sort: SortBy, chosen: Sequence[str], output: Output
) -> None:
    reports = _reports(topology, every, once=once)
    shown = (_selected(found, sort, chosen) async for found in reports)
    if output is Output.JSON:
        async for found in shown:
            data_line(found)
    elif once or not sys.stdout.isatty():
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
        async for found in shown:
            console.print(_drawn(found))
            sys.stdout.flush()
    else:
        await _live(shown)


async def _live(reports: AsyncGenerator[FleetReport]) -> None:
    """Draws each report over the one before, until q is typed."""
    with _quit_key() as quitting, Live(auto_refresh=False) as live:
        ended = asyncio.create_task(quitting.wait())
        try:
            while not ended.done():
                # one that q has cut off is not drawn
                coming = asyncio.ensure_future(anext(reports))
                await asyncio.wait({coming, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    await asyncio.wait({coming})
                    return
                live.update(_drawn(coming.result(), "q quits"), refresh=True)
        finally:
            ended.cancel()


@contextmanager
def _quit_key() -> Generator[asyncio.Event]:
    """An event that is set when q is typed, where there is a keyboard."""
    quitting = asyncio.Event()
    if not sys.stdin.isatty():
        yield quitting
        return
    import termios  # not on Windows, and only for a terminal
    import tty

    loop, keyboard = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def typed() -> None:
        if sys.stdin.buffer.raw.read(1) in (b"q", b"Q", b""):  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] -- a terminal's buffer has it
            quitting.set()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, typed)
    try:
        yield quitting
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


async def _reports(topology: Topology, every: timedelta, *, once: bool) -> AsyncGenerator[FleetReport]:
    """What the fleet's view says, again and again."""
    async with AsyncExitStack() as resources:
        clients = {cell.name: await connect_cell(cell, lazy=True) for cell in topology.cells}
        fleet = Fleet(topology, clients, kinds=PRIORS, interval=every)
        if once:
            yield await _settled(fleet)
            return
        await fleet.refresh()
        await resources.enter_async_context(fleet)
        while True:
            yield report(fleet.view())
            await asyncio.sleep(every.total_seconds())


async def _settled(fleet: Fleet) -> FleetReport:
    """A report in which everything counts as up or down: what fails is asked as often as that takes."""
    for _ in range(MOST_PROBES):
        await fleet.refresh()
        found = report(fleet.view())
        if all(line.reason is None for line in (*found.regions, *found.cells)):
            break
    return report(fleet.view())


def _selected(found: FleetReport, sort: SortBy, chosen: Sequence[str]) -> FleetReport:
    lines = [line for line in found.regions if line.region in chosen]
    if sort is SortBy.REGION:
        lines.sort(key=lambda line: line.region)
    elif sort is SortBy.STATE:
        lines.sort(key=lambda line: _STATES.index(line.state))
    elif sort is not SortBy.TOPOLOGY:
        lines.sort(key=lambda line: _number(line, sort), reverse=True)
    return found.model_copy(update={"regions": tuple(lines)})


_STATES = ("down", "draining", "unknown", "up")


def _number(line: RegionReport, sort: SortBy) -> float:
    numbers = {
        SortBy.BUSY: line.busy,
        SortBy.BACKLOG: line.backlog,
        SortBy.RTT: line.rtt_ms,
        SortBy.P50: line.p50_ms,
        SortBy.P95: line.p95_ms,
    }
    number = numbers[sort]
    return -1.0 if number is None else number


def _drawn(found: FleetReport, hint: str | None = None) -> Group:
    at = f"{found.taken_at.astimezone():%H:%M:%S}"
    parts = [
        drawn_table(
            " · ".join(text for text in (f"{len(found.regions)} regions", at, hint) if text),
            ["region", "state", "busy/slots", "backlog", "RTT ms", "p50 ms", "p95 ms", "cell", "reason"],
            (
                (
                    line.region,
                    line.state,
                    None if line.slots is None else f"{line.busy}/{line.slots}",
                    line.backlog,
                    line.rtt_ms,
                    line.p50_ms,
                    line.p95_ms,
                    line.cell,
                    line.reason or _avoided(line),
                )
                for line in found.regions
            ),
        ),
        Text(""),
        drawn_table(
            f"{len(found.cells)} cells",
            ["cell", "state", "region", "RTT ms", "reason"],
            ((line.cell, line.state, line.region, line.rtt_ms, line.reason or "") for line in found.cells),
        ),
    ]
    return Group(*parts)


def _avoided(line: RegionReport) -> str:
    """Of a region that is up; what is down or drains is avoided by all."""
    if line.state != "up":
        return ""
    return "; ".join(f"avoided by {region}: {reason}" for region, reason in line.avoided_by.items())


def _chosen(topology: Topology, names: list[str] | None) -> list[str]:
    """The regions that are shown.

    Raises:
        ConfigurationError: The topology has no such region.
    """
    known = [region.name for region in topology.regions]
    for name in names or ():
        if name not in known:
            raise ConfigurationError(
                f"--region {name!r} is not in {topology.source}; name one of {', '.join(known)}"
            )
    return names or known


def _interval(text: str) -> timedelta:
    """How often it refreshes.

    Raises:
        ConfigurationError: It is no duration, or too short to ask every region in it.
    """
    every = duration_of(text, "--every")
    if every < SHORTEST:
        raise ConfigurationError(f"--every {text!r} is too short; 200ms is the least")
    return every
