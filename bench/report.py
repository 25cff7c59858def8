"""What benchmarks have in common: percentiles, goals and a file of results."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.machine import machine

OUT = Path(__file__).parent / "out"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of the values do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def summary(values_ms: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(percentile(values_ms, 50), 3),
        "p95_ms": round(percentile(values_ms, 95), 3),
        "p99_ms": round(percentile(values_ms, 99), 3),
        "n": len(values_ms),
    }


def at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    """A goal that holds while the value does not exceed the bound."""
    return {"name": name, "value": round(value, 3), "bound": bound, "holds": value <= bound}


def write(name: str, results: Sequence[dict[str, Any]], goals: Sequence[dict[str, Any]] = ()) -> Path:
    """Writes ``bench/out/NAME.json``: the results, the goals, the day and the machine that gave them.

    ``make performance`` makes ``docs/performance.md`` of these files: rows with the same keys
    become a table there, and endings such as ``_ms`` the unit in its heading.
    """
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    report = {
        "bench": name,
        "measured": datetime.now(UTC).date().isoformat(),
        "quick": os.environ.get("QUICK") == "1",
        "machine": machine(),
        "goals": list(goals),
        "results": list(results),
    }
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path
