"""docs/performance.md, written from results: the same results give the same page."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.machine import machine
from bench.performance import PAGE, Benchmark, benchmarks, heading, page, read_results, regenerate, table

MACHINE = {"cpu": "A CPU", "cores": 2, "memory_gib": 23.5, "temporal_server": "1.32.0"}
TEXT = """One line.

How ``it`` is measured."""


def result(**changed: Any) -> dict[str, Any]:
    found = {
        "bench": "wan",
        "measured": "2026-11-25",
        "quick": False,
        "machine": MACHINE,
        "goals": [
            {"name": "a | b", "value": 2.5, "bound": 1.1, "holds": False},
            {"name": "c", "value": 0, "bound": 0, "holds": True},
        ],
        "results": [
            {"way": "a", "p50_ms": 1234.5, "n": 8},
            {"city": "Lisbon", "runs_per_s": 12.25, "about": {"x": 1, "y": None}, "good": True},
            {"way": "d", "p50_ms": None, "n": 12000},
        ],
    }
    return {**found, **changed}


def written(benches: Sequence[Benchmark], **results: dict[str, Any]) -> str:
    return page(benches, results)


WAN, LOAD = Benchmark("wan", TEXT), Benchmark("load", "Load.")


def test_a_page_has_machine_goals_method_and_a_table_for_each_shape_of_rows() -> None:
    text = written([WAN], wan=result())
    assert "| processor | cores | memory | Temporal server |" in text
    assert "| A CPU | 2 | 23.5 GiB | 1.32.0 |" in text
    assert "| wan | a \\| b | 2.5 | 1.1 | **missed** |" in text
    assert "| wan | c | 0 | 0 | holds |" in text
    assert "## wan\n\nOne line.\n\nHow `it` is measured.\n\nMeasured on 2026-11-25." in text
    assert "| way | p50 (ms) | n |\n| --- | --: | --: |\n| a | 1,234 | 8 |\n| d | – | 12,000 |" in text
    assert "| city | runs a second | about | good |" in text
    assert "| Lisbon | 12.25 | x 1, y – | yes |" in text


def test_what_has_not_run_is_said_to_be_missing() -> None:
    text = written([WAN, LOAD], wan=result())
    assert "## load\n\nLoad.\n\nNo results are here: `make bench BENCH=load` has not run." in text
    empty = written([WAN])
    assert "## Goals" not in empty
    assert "## Machine" not in empty


def test_several_machines_and_short_versions_are_told_apart() -> None:
    other = result(machine={"cpu": "Another"}, quick=True, goals=[])
    text = written([WAN, LOAD], wan=result(), load=other)
    assert "Of wan:" in text
    assert "Of load:" in text
    assert "This was the short version (`QUICK=1`): its figures are rough." in text


def test_older_results_without_a_day_are_written_too() -> None:
    old = {key: value for key, value in result().items() if key not in ("measured", "quick")}
    assert "Measured at a time not noted." in written([WAN], wan=old)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("first_token_p50_ms", "first token p50 (ms)"),
        ("runs_per_s", "runs a second"),
        ("kib_a_run", "kib a run"),
        ("memory_mib", "memory (MiB)"),
        ("way", "way"),
    ],
)
def test_headings_are_words_with_units(key: str, text: str) -> None:
    assert heading(key) == text


def test_numbers_are_as_exact_as_they_can_be_read() -> None:
    assert table([{"x": 0.1234}, {"x": 12.3456}, {"x": 244.44}, {"x": 98765.4}, {"x": 2.0}]).split("\n")[
        2:
    ] == ["| 0.123 |", "| 12.346 |", "| 244.4 |", "| 98,765 |", "| 2 |"]


def test_the_same_results_give_the_same_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wan.json").write_text(json.dumps(result()))
    arguments = ["--results", str(tmp_path), "--page", str(tmp_path / "page.md")]
    assert regenerate(arguments) == 0
    first = (tmp_path / "page.md").read_text()
    assert regenerate(arguments) == 0
    assert (tmp_path / "page.md").read_text() == first
    assert first == page(benchmarks(), read_results(tmp_path, benchmarks()))
    told = capsys.readouterr().out
    assert "1 benchmarks, 1 of 2 goals hold" in told
    assert re.search(r"no results of: .*overhead", told)


def test_every_benchmark_that_can_be_run_has_its_text_on_the_page() -> None:
    benches = benchmarks()
    assert {"wan", "overhead", "plan"} <= {bench.name for bench in benches}
    assert not {"performance", "report", "machine"} & {bench.name for bench in benches}
    shown = PAGE.read_text(encoding="utf-8")
    for bench in benches:
        assert bench.text, bench.name
        assert f"\n## {bench.name}\n" in shown, f"run `make performance`: {bench.name} is not on the page"


def test_results_are_written_with_the_day_and_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path)
    monkeypatch.setenv("QUICK", "1")
    found = json.loads(report.write("wan", [{"way": "a"}]).read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["measured"])
    assert (found["bench"], found["quick"], found["goals"]) == ("wan", True, [])
    assert found["machine"] == machine()


def test_a_machine_is_described_without_its_name_or_place() -> None:
    described = machine()
    assert described["cores"] == os.cpu_count()
    assert described["memory_gib"] > 0
    assert re.fullmatch(r"[\d.]+", described["temporal_server"])
    text = json.dumps(described)
    assert os.uname().nodename not in text
    assert "/" not in text.replace("n/a", "")
