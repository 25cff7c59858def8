"""The end of the demo: the wan bench's four ways for one user, as a table and as bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.distances import estimates
from orchestrator.cli.output import note
from orchestrator.dev.ways import CENTRAL, Comparison, Leg, WayTimes, compare
from orchestrator.geography import Origin
from orchestrator.topology import Topology

WIDTH = 80
"""Columns where the output is no terminal; and at most, because longer bars say no more."""

OURS = "d"


async def show_comparison(topology: Topology, origin: Origin, *, samples: int) -> None:
    """Measure the ways on the running stack and print them.

    Args:
        topology: Of the stack, with the true addresses.
        origin: Where the user is.
        samples: Runs of each way that count.

    Raises:
        StackError: A way gave a wrong answer.
        CellUnavailableError: A cell does not answer.
    """
    print(f"\n━━ the same agent in four ways · from {origin.label}", flush=True)
    names = [region.name for region in topology.regions]
    if len(names) == 1:
        note(f"nothing to compare: all ways are the same with the one region {names[0]}")
        return
    central = CENTRAL if CENTRAL in names else names[0]
    found = await compare(topology, origin, central, samples=samples, progress=note)
    width = min(Console().width, WIDTH) if sys.stdout.isatty() else WIDTH
    Console(highlight=False, width=width).print(view(found, estimates(topology, origin)))


def view(found: Comparison, remarks: list[str]) -> RenderableType:
    """What is printed: it fits into 80 columns.

    Args:
        found: What was measured.
        remarks: More sentences, about the distances.
    """
    return Group(
        Text(),
        _table(found),
        Text(),
        _bars(found),
        Text(),
        *(Text(f"({way.way}) {way.about}: {_named(way)}") for way in found.ways),
        Text(),
        *(Text(sentence) for sentence in _sentences(found, remarks)),
    )


def _table(found: Comparison) -> Table:
    drawn = Table(box=None, padding=(0, 2, 0, 0))
    drawn.add_column("way", no_wrap=True)
    for heading in ("p50 ms", "p99 ms", "n", "× floor"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("ms on paper", overflow="fold")
    for way in found.ways:
        p50_ms = way.percentile_ms(50)
        drawn.add_row(
            f"({way.way}) {way.name}",
            f"{p50_ms:,.0f}",
            f"{way.percentile_ms(99):,.0f}",
            str(len(way.times_ms)),
            f"{p50_ms / found.floor_ms:.1f}" if found.floor_ms else "–",
            _on_paper(way),
            style=_style(way),
        )
    return drawn


def _bars(found: Comparison) -> Table:
    """The p50 of each way, and the floor, from zero on one scale."""
    drawn = Table.grid(padding=(0, 1, 0, 0), expand=True)
    drawn.add_column(no_wrap=True)
    drawn.add_column(ratio=1)
    drawn.add_column(justify="right", no_wrap=True)
    longest_ms = max(way.percentile_ms(50) for way in found.ways)
    for way in found.ways:
        p50_ms = way.percentile_ms(50)
        bar = Bar(longest_ms, 0, p50_ms, color="green" if way.way == OURS else "yellow")
        drawn.add_row(f"({way.way}) {way.name}", bar, f"{p50_ms:,.0f} ms", style=_style(way))
    drawn.add_row("    floor", Bar(longest_ms, 0, found.floor_ms), f"{found.floor_ms:,.0f} ms", style="dim")
    return drawn


def _sentences(found: Comparison, remarks: list[str]) -> Iterator[str]:
    yield (
        f"floor: one round trip from {found.origin.label} to {found.near}, the nearest region; the five "
        "steps take no time, so the rest is round trips, servers, workers and this machine"
    )
    if found.gains_nothing:
        yield (
            f"{found.near} is the nearest region and the central one: nothing is to gain here by going "
            "nearer; the ways differ by what orchestration costs"
        )
    else:
        ours = next(way for way in found.ways if way.way == OURS)
        other = min((way for way in found.ways if way is not ours), key=lambda way: way.percentile_ms(50))
        ratio = other.percentile_ms(50) / ours.percentile_ms(50)
        yield (
            f"Edgeward takes {1 / ratio:.0%} of the time of ({other.way}), the fastest other way here"
            if ratio >= 1
            else f"({other.way}) is faster here: Edgeward takes {1 / ratio:.0%} of its time"
        )
    samples = len(found.ways[0].times_ms)
    checked = f"all {samples * len(found.ways)} answers were checked"
    yield f"{checked}; p99 of {samples} runs is the slowest of them" if samples <= 100 else checked
    yield from remarks


def _on_paper(way: WayTimes) -> str:
    trips = _trips(way)
    terms = [f"{leg.count}×{leg.rtt_ms:.0f}" if leg.count > 1 else f"{leg.rtt_ms:.0f}" for leg in trips]
    total_ms = f"{sum(leg.count * leg.rtt_ms for leg in trips):,.0f}"
    return total_ms if terms in ([], [total_ms]) else f"{' + '.join(terms)} = {total_ms}"


def _named(way: WayTimes) -> str:
    return " + ".join(map(str, _trips(way))) or "no distance"


def _trips(way: WayTimes) -> list[Leg]:
    """Those that are of any length: inside a region there is none."""
    return [leg for leg in way.legs if leg.rtt_ms]


def _style(way: WayTimes) -> str:
    return "bold" if way.way == OURS else ""
