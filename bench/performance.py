"""Writes ``docs/performance.md`` from what the benchmarks left in ``bench/out``: ``make performance``.

Nothing is measured here, and the same results give the same page. The text of each benchmark is
its module's docstring.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import OUT

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "performance.md"

ORDER = ("wan", "mesh", "overhead", "load", "peers", "tokens", "cold", "plan", "trace", "tuning")
"""What users ask first comes first; benchmarks that are not here follow by name."""

HEAD = """\
# Performance

What Edgeward costs and gains, measured. The page is written by one command from the results of the
benchmarks; every benchmark checks each answer that it times.

```console
$ make bench              # lists the benchmarks
$ make bench BENCH=wan    # runs one, and leaves its results in bench/out
$ make performance        # writes this page from bench/out
```

Times are percentiles of single runs, not of averages; *n* is how many. Variants that are compared ran in turn
in the same minutes, so a ratio is safer than a time. A goal that is missed is listed as missed.
"""

UNITS = {
    "_ms": "ms",
    "_us": "µs",
    "_s": "s",
    "_bytes": "bytes",
    "_kib": "KiB",
    "_mib": "MiB",
    "_gib": "GiB",
    "_percent": "%",
}
MACHINE = {"cpu": "processor", "memory_gib": "memory", "temporal_server": "Temporal server"}


@dataclass(frozen=True)
class Benchmark:
    """A module of this folder that measures something."""

    name: str
    text: str
    """Its docstring."""

    @property
    def about(self) -> str:
        """In one line."""
        return self.text.partition("\n")[0]


def benchmarks(folder: Path = FOLDER) -> list[Benchmark]:
    """Those that ``make bench`` lists, found without importing what they measure."""
    found: list[Benchmark] = []
    for file in folder.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if _measures(tree) and not file.name.startswith("_"):
            found.append(Benchmark(file.stem, ast.get_docstring(tree) or ""))
    known = {name: place for place, name in enumerate(ORDER)}
    return sorted(found, key=lambda bench: (known.get(bench.name, len(known)), bench.name))


def _measures(tree: ast.Module) -> bool:
    """Whether it has what ``python -m bench NAME`` calls: ``main(arguments)``."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == "main" and len(node.args.args) == 1
        for node in tree.body
    )


def read_results(folder: Path, benches: Sequence[Benchmark]) -> dict[str, dict[str, Any]]:
    """What each benchmark wrote, by its name; without those that have written nothing."""
    files = {bench.name: folder / f"{bench.name}.json" for bench in benches}
    return {
        name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()
    }


def page(benches: Sequence[Benchmark], results: Mapping[str, dict[str, Any]]) -> str:
    """The whole page, in Markdown."""
    parts = [HEAD, *_machines(results)]
    if results:
        parts += ["## Goals", _goals(results)]
    for bench in benches:
        parts += [f"## {bench.name}", _markdown(bench.text)]
        found = results.get(bench.name)
        if found is None:
            parts.append(f"No results are here: `make bench BENCH={bench.name}` has not run.")
        else:
            parts += [_when(found), *_tables(found["results"])]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _machines(results: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """One table for each machine that measured something: usually it is one."""
    by_machine: dict[str, list[str]] = {}
    for name, found in results.items():
        by_machine.setdefault(json.dumps(found["machine"]), []).append(name)
    if by_machine:
        yield "## Machine"
    for described, names in by_machine.items():
        if len(by_machine) > 1:
            yield f"Of {', '.join(names)}:"
        machine: dict[str, Any] = json.loads(described)
        yield table([{MACHINE.get(key, key): _quantity(key, value) for key, value in machine.items()}])


def _goals(results: Mapping[str, dict[str, Any]]) -> str:
    rows = [
        {
            "benchmark": name,
            "goal": goal["name"],
            "measured": goal["value"],
            "bound": goal["bound"],
            "": "holds" if goal["holds"] else "**missed**",
        }
        for name, found in results.items()
        for goal in found["goals"]
    ]
    return table(rows) if rows else "None of the benchmarks here has a goal."


def _when(found: Mapping[str, Any]) -> str:
    measured = f"Measured on {found['measured']}." if "measured" in found else "Measured at a time not noted."
    short = " This was the short version (`QUICK=1`): its figures are rough." if found.get("quick") else ""
    return measured + short


def _tables(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One table for the rows of each shape, in the order in which the shapes come."""
    by_shape: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_shape.setdefault(tuple(row), []).append(row)
    for shaped in by_shape.values():
        yield table(shaped)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of rows that have the same keys; numbers to the right."""
    keys = list(rows[0])
    numbers = [all(_is_number(row[key]) for row in rows) for key in keys]
    lines = [
        [heading(key) for key in keys],
        ["--:" if number else "---" for number in numbers],
        *([_cell(row[key]) for key in keys] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def heading(key: str) -> str:
    """A key of a row as people read it: ``first_token_p50_ms`` is ``first token p50 (ms)``."""
    for ending, unit in UNITS.items():
        if key.endswith(ending) and not key.endswith("_per_s"):
            return f"{key.removesuffix(ending).replace('_', ' ')} ({unit})"
    return key.replace("_per_s", " a second").replace("_", " ")


def _quantity(key: str, value: Any) -> str:
    unit = next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")
    return f"{_cell(value)} {unit}".strip()


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 3
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return " ".join(str(value).replace("|", "\\|").split())


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _markdown(docstring: str) -> str:
    """A docstring's text: double backticks are single ones in Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", docstring)


def regenerate(arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="make performance", description=__doc__)
    parser.add_argument("--results", type=Path, default=OUT, help="folder of the benchmarks' results")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    options = parser.parse_args(arguments)
    benches = benchmarks()
    results = read_results(options.results, benches)
    options.page.write_text(page(benches, results), encoding="utf-8")
    missing = [bench.name for bench in benches if bench.name not in results]
    goals = [goal["holds"] for found in results.values() for goal in found["goals"]]
    print(f"{options.page.name}: {len(results)} benchmarks, {sum(goals)} of {len(goals)} goals hold")
    if missing:
        print(f"no results of: {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(regenerate(sys.argv[1:]))
