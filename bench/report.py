"""What benchmarks have in common: percentiles, goals and a file of results."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def write(name: str, results: Sequence[dict[str, Any]], goals: Sequence[dict[str, Any]] = ()) -> Path:
    """Writes ``bench/out/NAME.json``: the results, the goals and the machine that gave them."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    machine = {"python": platform.python_version(), "system": platform.platform()}
    path.write_text(
        json.dumps(
            {"bench": name, "machine": machine, "goals": list(goals), "results": list(results)}, indent=2
        )
        + "\n"
    )
    return path
