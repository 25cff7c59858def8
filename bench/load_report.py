"""What the load bench makes of its blocks: rates, memory, evictions and goals."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.load_agents import STEPS
from bench.load_loop import Block, Held
from bench.load_systems import KINDS
from bench.report import percentile, summary

OURS, THEIRS = "edgeward", "plain"

FLAT_FROM = 100
"""The number of open runs that more of them are compared with."""

GOAL_RATIO = 0.95
"""Of runs a second, Edgeward over plain temporalio."""

GOAL_FLAT = 0.9
"""Of Edgeward's runs a second, with the most open runs over with ``FLAT_FROM``."""

Rows = list[dict[str, Any]]


@dataclass
class Measured:
    """Everything that the bench saw."""

    blocks: dict[tuple[int, str, str], list[Block]] = field(default_factory=dict)
    """By number of open runs, kind and system, in the order in which they were run."""

    held: dict[tuple[int, str], Held] = field(default_factory=dict)
    """By number of open runs and system; 0 is after the warm-up."""

    evicting: dict[str, list[Block]] = field(default_factory=dict)
    """By system, with a cache for a tenth of the open runs."""

    evicting_before: dict[str, Held] = field(default_factory=dict)
    evicting_after: dict[str, Held] = field(default_factory=dict)
    loads: list[tuple[int, float]] = field(default_factory=list)
    """The machine's load average before the blocks with so many open runs."""

    def note(self, count: int, kind: str, system: str, block: Block) -> None:
        self.blocks.setdefault((count, kind, system), []).append(block)

    @property
    def counts(self) -> list[int]:
        return sorted({count for count, _, _ in self.blocks})


def rates(measured: Measured) -> Rows:
    return [
        {"open": count, "kind": kind, "system": system, **_rate(blocks)}
        for (count, kind, system), blocks in sorted(measured.blocks.items(), key=lambda item: item[0])
    ]


def _rate(blocks: Sequence[Block]) -> dict[str, Any]:
    runs = sum(block.runs for block in blocks)
    runs_per_s = runs / sum(block.seconds for block in blocks)
    return {
        "runs_per_s": round(runs_per_s, 1),
        "steps_per_s": round(runs_per_s * STEPS, 1),
        "worker_cpu_ms": _by_run(blocks, "worker_cpu_s"),
        "client_cpu_ms": _by_run(blocks, "client_cpu_s"),
        "server_cpu_ms": _by_run(blocks, "server_cpu_s"),
        **{f"finish_{key}": value for key, value in _finish(blocks).items()},
    }


def _by_run(blocks: Sequence[Block], used: str) -> float:
    seconds = sum(getattr(block, used) for block in blocks)
    return round(seconds * 1000 / sum(block.runs for block in blocks), 2)


def _finish(blocks: Sequence[Block]) -> dict[str, float]:
    return summary([taken_ms for block in blocks for taken_ms in block.finish_ms])


def memory(measured: Measured) -> Rows:
    """Of each worker: with so many runs open, and what is on top of the idle one for each of them."""
    rows: Rows = []
    for (count, system), held in sorted(measured.held.items()):
        grown = held.resident_bytes - measured.held[0, system].resident_bytes
        rows.append(
            {
                "open": held.open_runs,
                "system": system,
                "cached": held.cached_runs,
                "resident_mib": round(held.resident_bytes / 2**20, 1),
                # a few runs grow the heap by less than what it grows by anyhow
                "kib_a_run": round(grown / held.open_runs / 1024, 1) if count >= 1000 else None,
            }
        )
    return rows


def evictions(measured: Measured) -> Rows:
    """What a cache costs that holds a tenth of the open runs."""
    if not measured.evicting:
        return []
    count = measured.counts[-1]
    rows: Rows = []
    for system, blocks in measured.evicting.items():
        rate, before, held = _rate(blocks), measured.evicting_before[system], measured.evicting_after[system]
        misses = held.cache_misses - before.cache_misses
        enough = _rate(measured.blocks[count, "inline", system])
        rows.append(
            {
                "open": held.open_runs,
                "kind": "inline",
                "system": system,
                "cached": held.cached_runs,
                "resident_mib": round(held.resident_bytes / 2**20, 1),
                "misses_a_run": round(misses / sum(block.runs for block in blocks), 2),
                "of_runs_per_s_all_cached": round(rate["runs_per_s"] / enough["runs_per_s"], 3),
                **rate,
            }
        )
    return rows


def goals_of(measured: Measured) -> Rows:
    return [*_ratios(measured), *_flat(measured)]


def _ratios(measured: Measured) -> Iterator[dict[str, Any]]:
    for count in measured.counts:
        for kind in KINDS:
            pairs = zip(measured.blocks[count, kind, OURS], measured.blocks[count, kind, THEIRS], strict=True)
            ratios = [ours.runs_per_s / theirs.runs_per_s for ours, theirs in pairs]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs"
            name = f"runs/s, {OURS} over {THEIRS}, {kind}, {count:,} open ({spread})"
            yield _goal(name, percentile(ratios, 50), GOAL_RATIO)


def _flat(measured: Measured) -> Iterator[dict[str, Any]]:
    most = measured.counts[-1]
    if FLAT_FROM not in measured.counts or most <= FLAT_FROM:
        return
    for kind in KINDS:
        rates = {system: _over(measured, kind, system, most, _runs_per_s) for system in (OURS, THEIRS)}
        # the two levels are minutes apart, and the machine may not be the same
        used = _over(measured, kind, OURS, most, _cpu_ms)
        compared = f"{THEIRS}: {rates[THEIRS]:.2f}, processor time a run: {used:.2f}"
        name = f"runs/s, {OURS}, {kind}, {most:,} open over {FLAT_FROM} ({compared})"
        yield _goal(name, rates[OURS], GOAL_FLAT)


def _over(
    measured: Measured, kind: str, system: str, most: int, figure: Callable[[Sequence[Block]], float]
) -> float:
    """A figure with the most open runs, over the same with ``FLAT_FROM``."""
    many, few = (figure(measured.blocks[count, kind, system]) for count in (most, FLAT_FROM))
    return many / few


def _runs_per_s(blocks: Sequence[Block]) -> float:
    return percentile([block.runs_per_s for block in blocks], 50)


def _cpu_ms(blocks: Sequence[Block]) -> float:
    return sum(_by_run(blocks, used) for used in ("worker_cpu_s", "client_cpu_s", "server_cpu_s"))


def _goal(name: str, value: float, bound: float) -> dict[str, Any]:
    return {"name": name, "value": round(value, 3), "bound": bound, "holds": value >= bound}


def print_table(rows: Rows) -> None:
    """A line a row, in columns."""
    if not rows:
        return
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()


def _text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
