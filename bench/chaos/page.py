"""Writes the measured part of ``docs/reliability.md`` from ``bench/out``: ``make reliability``.

Only what stands between the two marks is written; the same results give the same text.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.chaos import results, soak
from bench.performance import table
from bench.report import OUT

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

COUNTED = ("scenario", "runs", *results.ZERO, "failed", "repeated", "refused", "caller_errors")
TIMED = (
    *("scenario", "hit", "recovery", "recovery_p50_s", "recovery_p99_s"),
    *("run_p50_s", "run_p99_s", "extra_requests_percent"),
)


def measured(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The text between the marks.

    Args:
        found: What ``bench/out`` holds, by the name of the harness that wrote it.
    """
    parts = [part for name in (results.NAME, soak.NAME) for part in _parts(name, found.get(name))]
    return "\n\n".join(parts)


def _parts(name: str, found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield f"No results are here: `make {name}` has not run."
        return
    machine = found["machine"]
    yield (
        f"`make {name}`, measured on {found['measured']}: {machine['cpu']}, {machine['cores']} cores, "
        f"Temporal server {machine['temporal_server']}."
        + (" The short version: its figures are rough." if found.get("quick") else "")
    )
    yield table([_goal(goal) for goal in found["goals"]])
    rows: list[dict[str, Any]] = found["results"]
    scenarios = [row for row in rows if "scenario" in row]
    if scenarios:
        yield table([{key: row[key] for key in COUNTED} for row in scenarios])
        yield table([{key: row[key] for key in TIMED} for row in scenarios])
    for group in _same_keys([row for row in rows if "scenario" not in row]):
        yield table(group)


def _goal(goal: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "goal": goal["name"],
        "measured": goal["value"],
        "bound": goal["bound"],
        "": "holds" if goal["holds"] else "**missed**",
    }


def _same_keys(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    yield from groups.values()


def rewritten(page: str, text: str) -> str:
    """The page with this text between its marks.

    Raises:
        ValueError: It has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}; put them where the figures belong")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make reliability", description=__doc__)
    parser.add_argument("--results", type=Path, default=OUT, help="folder of the results")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page")
    chosen = parser.parse_args(arguments)
    files = {name: chosen.results / f"{name}.json" for name in (results.NAME, soak.NAME)}
    found = {name: json.loads(file.read_text("utf-8")) for name, file in files.items() if file.exists()}
    chosen.page.write_text(rewritten(chosen.page.read_text("utf-8"), measured(found)), encoding="utf-8")
    goals = [goal["holds"] for one in found.values() for goal in one["goals"]]
    print(f"{chosen.page.name}: {sum(goals)} of {len(goals)} goals hold")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
