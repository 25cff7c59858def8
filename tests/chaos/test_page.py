"""The measured part of docs/reliability.md is written between its marks, from results alone."""

import json
from pathlib import Path

import pytest

from bench.chaos.page import BEGIN, COUNTED, END, PAGE, TIMED, main, rewritten
from bench.chaos.scenarios import SCENARIOS

MACHINE = {"cpu": "A CPU", "cores": 2, "temporal_server": "1.32.0"}


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    row = {**dict.fromkeys((*COUNTED, *TIMED), 0), "scenario": "healthy", "recovery_p99_s": None}
    goal = {"name": "runs lost", "value": 3, "bound": 0, "holds": False}
    found = {
        "measured": "2026-11-25",
        "quick": True,
        "machine": MACHINE,
        "goals": [goal],
        "results": [row, {"overload": "overload", "hung": 0}],
    }
    (tmp_path / "chaos.json").write_text(json.dumps(found))
    page = tmp_path / "page.md"
    page.write_text(f"Before.\n{BEGIN}\nold\n{END}\nAfter.\n")
    for _ in range(2):
        assert main(["--results", str(tmp_path), "--page", str(page)]) == 0
        text = page.read_text()
        assert text.startswith(f"Before.\n{BEGIN}\n\n`make chaos`, measured on 2026-11-25: A CPU, 2 cores")
        assert text.endswith(f"`make soak` has not run.\n\n{END}\nAfter.\n")
        assert "old" not in text
        assert "| runs lost | 3 | 0 | **missed** |" in text


def test_a_page_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no <!-- measured: begin"):
        rewritten("A page.", "text")


def test_the_page_tells_every_scenario() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert BEGIN in text
    for scenario in SCENARIOS:
        assert f"`{scenario.name}`" in text, scenario.name
