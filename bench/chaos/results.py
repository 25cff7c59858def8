"""The results of ``make chaos``: rows, goals, a file of them, and a table on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.chaos import clock
from bench.chaos.conduct import Baseline, Outcome
from bench.chaos.overload import Overloaded
from bench.chaos.scenarios import HEALTHY, SCENARIOS, Options, Scenario
from bench.report import OUT, at_most, write

NAME = "chaos"

ZERO = {
    "lost": "runs lost",
    "unaccepted": "runs never accepted",
    "duplicated": "effects had more than once with a key",
    "missing": "effects of answered runs that never happened",
    "wrong": "wrong answers",
    "outside": "steps outside their run's residency",
}
"""Columns whose sum over all scenarios shall be zero, and what they are called."""

HEDGED_TIMES = 2.0
HEDGED_EXTRA_PERCENT = 3.0
GOODPUT_PERCENT = 90.0
REFUSED_WITHIN_S = 1.0

SHOWN = (
    *("scenario", "runs", *ZERO, "failed", "repeated", "refused", "caller_errors"),
    *("hit", "recovery_p50_s", "recovery_p99_s", "run_p99_s", "extra_requests_percent"),
)


class Results:
    """Collects what scenarios gave."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rows: dict[str, dict[str, Any]] = {}
        self.overloads: list[dict[str, Any]] = []
        self._goals: dict[str, list[dict[str, Any]]] = {}

    def add(self, scenario: Scenario, outcome: Outcome, healthy: Baseline) -> None:
        self.rows[scenario.name] = outcome.row
        goals: list[dict[str, Any]] = []
        if scenario.bound_s is not None:
            recovery_s = outcome.recovery_p99_s if outcome.hit else None
            goals.append(_at_most(f"{scenario.name}: recovery p99 (s)", recovery_s, scenario.bound_s))
        if scenario.hedged:
            times = None if outcome.run_p99_s is None else outcome.run_p99_s / healthy.p99_s
            goals.append(
                _at_most(f"{scenario.name}: p99 of runs, times that of a healthy fleet", times, HEDGED_TIMES)
            )
            goals.append(
                at_most(
                    f"{scenario.name}: extra calls (%)", outcome.extra_requests_percent, HEDGED_EXTRA_PERCENT
                )
            )
        self._goals[scenario.name] = goals

    def add_overload(self, overloaded: Overloaded) -> None:
        self.overloads = [overloaded.row]
        percent = overloaded.goodput_percent
        self._goals["overload"] = [
            {
                "name": "overload: goodput (% of capacity), at least",
                "value": percent,
                "bound": GOODPUT_PERCENT,
                "holds": percent >= GOODPUT_PERCENT,
            },
            # None: nobody was refused, though four of five should have been
            _at_most("overload: refused within (s, p99)", overloaded.refused_p99_s, REFUSED_WITHIN_S),
            at_most("overload: runs that hang", overloaded.hung, 0),
        ]

    @property
    def goals(self) -> list[dict[str, Any]]:
        return goals_of(list(self.rows.values()), [goal for goals in self._goals.values() for goal in goals])

    @property
    def all_hold(self) -> bool:
        return all(goal["holds"] for goal in self.goals)

    def in_short(self, name: str) -> str:
        row = self.rows[name]
        return ", ".join(f"{key} {row[key]}" for key in SHOWN[1:])

    def write(self) -> Path:
        """Writes ``bench/out/chaos.json``; scenarios that did not run keep what they had."""
        kept = _kept(self._options)
        old = {row["scenario"]: row for row in kept["results"] if "scenario" in row}
        rows = {**old, **self.rows}
        ordered = [rows[scenario.name] for scenario in SCENARIOS if scenario.name in rows]
        overloads = self.overloads or [row for row in kept["results"] if "overload" in row]
        special = [goal for goal in kept["goals"] if goal["name"].partition(":")[0] not in self._goals]
        special = [goal for goal in special if ":" in goal["name"]]
        special += [goal for goals in self._goals.values() for goal in goals]
        how = {
            "runs_a_scenario": self._options.runs,
            "random_seed": self._options.seed,
            "deadline_s": self._options.deadline.total_seconds(),
            "clocks": clock.means(),
        }
        return write(NAME, [*ordered, *overloads, how], goals_of(ordered, special))

    def print_table(self) -> None:
        console = Console(width=200)
        table = Table(*SHOWN)
        for row in self.rows.values():
            table.add_row(*(_cell(row[key]) for key in SHOWN))
        if self.rows:
            console.print(table)
        for row in self.overloads:
            console.print(", ".join(f"{key} {_cell(value)}" for key, value in row.items()))
        for goal in self.goals:
            holds = "holds " if goal["holds"] else "MISSED"
            console.print(f"{holds}  {goal['name']}: {_cell(goal['value'])} (bound {goal['bound']})")


def goals_of(rows: Sequence[Mapping[str, Any]], special: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals of all scenarios together, and the special ones."""
    if not rows:
        return list(special)
    shared = [at_most(name, sum(row[key] for row in rows), 0) for key, name in ZERO.items()]
    # a fault that hits nothing proves nothing
    unhit = sum(row["hit"] == 0 for row in rows if row["scenario"] != HEALTHY)
    return [*shared, at_most("scenarios whose fault hit no run", unhit, 0), *special]


def _at_most(name: str, value: float | None, bound: float) -> dict[str, Any]:
    """A goal whose value may be missing: nothing recovered, or nothing was measured. It is missed then."""
    if value is None:
        return {"name": name, "value": None, "bound": bound, "holds": False}
    return at_most(name, value, bound)


def _kept(options: Options) -> dict[str, list[dict[str, Any]]]:
    """What an earlier call with as many runs left."""
    file = OUT / f"{NAME}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if any(row.get("runs_a_scenario") == options.runs for row in found["results"]):
            return {"results": found["results"], "goals": found["goals"]}
    return {"results": [], "goals": []}


def _cell(value: object) -> str:
    return "never" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
