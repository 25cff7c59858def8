"""The command as a user runs it: a process, its output, its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import edgeward
from tests.shared_data import CHECKOUT

TOPOLOGY = """
[cells.europe]
address = "127.0.0.1:1"
region = "frankfurt"

[regions.frankfurt]
coordinates = [50.1, 8.7]
country = "DE"
cell = "europe"

[regions.dublin]
coordinates = [53.3, -6.3]
country = "IE"
cell = "europe"

[[regions.dublin.offers]]
kind = "tool"
name = "press"
endpoint = "http://127.0.0.1:1/press"

[regions.ashburn]
coordinates = [39.0, -77.5]
country = "US"
cell = "europe"
"""


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    file = tmp_path / "topology.toml"
    file.write_text(TOPOLOGY, encoding="utf-8")
    return file


def explained(topology: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return edgeward(
        *("plan", "explain", "tour", "--app", "tests.dispatch.agents:application"),
        *("--topology", str(topology), *more),
    )


def test_regions_are_listed_for_people_and_for_programs(topology: Path) -> None:
    text = edgeward("regions", "list", "--topology", str(topology))
    assert text.returncode == 0
    assert 'tool "press"' in text.stdout
    assert "round trip times" in text.stdout
    listed = json.loads(edgeward("regions", "list", "-t", str(topology), "--output", "json").stdout)
    assert [region["name"] for region in listed] == ["frankfurt", "dublin", "ashburn"]
    assert listed[1]["jurisdictions"] == ["EU", "IE"]
    assert listed[0]["rtt_ms"]["ashburn"] > listed[0]["rtt_ms"]["dublin"] > 0


def test_a_plan_is_explained_with_costs_and_exclusions(topology: Path) -> None:
    text = explained(topology, "--origin", "Lisbon", "--residency", "EU")
    assert text.returncode == 0, text.stderr
    assert "origin     Lisbon, PT" in text.stdout
    assert "excluded   ashburn: residency – lies in US, not in EU" in text.stdout
    assert 'excluded   frankfurt: needs – lacks tool "press"' in text.stdout
    plan = json.loads(explained(topology, "--origin", "Lisbon", "--output", "json").stdout)
    assert plan["root"]["steps"]["press"]["candidates"][0]["region"] == "dublin"
    assert set(plan["root"]["steps"]["press"]["excluded"]) == {"frankfurt", "ashburn"}


def test_holes_in_the_measured_times_are_estimated_and_told_once(topology: Path) -> None:
    link = '[[links]]\nsource = "dublin"\ntarget = "frankfurt"\nrtt_ms = 25.5\n'
    topology.write_text(TOPOLOGY + link, encoding="utf-8")
    told = "round trip times of 2 of 3 pairs of regions are estimated from coordinates"
    for shown in (
        edgeward("regions", "list", "--topology", str(topology)),
        edgeward("regions", "list", "--topology", str(topology), "--output", "json"),
        explained(topology, "--origin", "dublin"),
    ):
        assert shown.returncode == 0
        assert shown.stderr.count(told) == 1
        assert "(frankfurt–ashburn, dublin–ashburn)" in shown.stderr
        assert "estimated" not in shown.stdout
    rtts_ms = json.loads(edgeward("regions", "list", "-t", str(topology), "-o", "json").stdout)[0]["rtt_ms"]
    assert rtts_ms["dublin"] == 25.5
    assert rtts_ms["ashburn"] > 25.5


def test_a_whole_table_of_times_needs_no_note(topology: Path) -> None:
    pairs = (("dublin", "frankfurt"), ("frankfurt", "ashburn"), ("ashburn", "dublin"))
    links = (f'[[links]]\nsource = "{a}"\ntarget = "{b}"\nrtt_ms = 25.5\n' for a, b in pairs)
    topology.write_text(TOPOLOGY + "".join(links), encoding="utf-8")
    assert edgeward("regions", "list", "--topology", str(topology)).stderr == ""
    assert explained(topology, "--origin", "dublin").stderr == ""
    assert explained(topology, "--origin", "Lisbon").stderr == (
        "round trip times from Lisbon, PT are estimated from coordinates\n"
    )


def test_an_unknown_city_of_a_known_country_is_placed_and_told(topology: Path) -> None:
    planned = explained(topology, "--origin", "Erewhon, Portugal", "--output", "json")
    assert planned.returncode == 0, planned.stderr
    assert "origin Erewhon, PT: taken to be at Lisbon, PT" in planned.stderr
    assert "round trip times from Erewhon, PT are estimated" in planned.stderr
    assert json.loads(planned.stdout)["origin"]["label"] == "Erewhon, PT"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--origin", "Erewhon"), 1, "or latitude,longitude (38.72,-9.14)"),
        (("--origin", "Lisbn"), 1, "unknown origin 'Lisbn'"),
        (("--origin", "Lisbn"), 1, "did you mean Lisbon, PT or "),
        (("--origin", "Lisbon", "--residency", "DE"), 1, "because of the rule 'needs'"),
        (("--origin", "Lisbon", "--residency", "JP"), 1, "because of the rule 'residency'"),
        (("--origin", "Lisbon", "--residency", " , "), 2, "a residency names no jurisdiction"),
        (("--origin", "Lisbon", "--app", "tests.nowhere:app"), 2, "there is no module tests.nowhere"),
        (("--origin", "Lisbon", "--app", "tests.dispatch.agents:apple"), 2, "has no apple"),
        (("--origin", "Lisbon", "--output", "yaml"), 2, "yaml"),
        ((), 2, "--origin"),
    ],
)
def test_what_cannot_be_planned_is_told_in_a_message(
    topology: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    refused = explained(topology, *arguments)
    assert refused.returncode == code
    assert told in " ".join(refused.stderr.split())
    assert refused.stdout == ""
    assert "Traceback" not in refused.stderr


def test_an_unknown_agent_is_told_those_that_there_are(topology: Path) -> None:
    refused = edgeward(
        *("plan", "explain", "nobody", "--origin", "Lisbon", "-t", str(topology)),
        *("--app", "tests.dispatch.agents:application"),
    )
    assert refused.returncode == 2
    assert "unknown agent 'nobody'; the application has: Again, AuthorsQueue, Choir" in refused.stderr


def test_a_broken_topology_is_one_line_with_exit_code_two(tmp_path: Path) -> None:
    file = tmp_path / "topology.toml"
    file.write_text(TOPOLOGY.replace('cell = "europe"', 'cell = "asia"', 1), encoding="utf-8")
    refused = edgeward("regions", "list", "--topology", str(file))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "regions.frankfurt.cell: unknown cell 'asia'" in refused.stderr


def test_a_run_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    refused = edgeward(
        *("run", "tour", "--origin", "Lisbon", "--input", "hi", "--folder", str(tmp_path)),
        *("--app", "tests.dispatch.agents:application"),
    )
    assert refused.returncode == 1
    assert "start one with `edgeward up`" in refused.stderr


def test_python_dash_m_worker_is_the_worker_of_the_shipped_agents() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "worker", "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0
    assert "--region" in told.stdout


def test_a_command_ends_before_threads_of_temporals_core_meet_a_finalizing_interpreter() -> None:
    # what runs while the interpreter finalizes would change the exit code; nothing does
    code = (
        "import atexit, os, sys\n"
        "from orchestrator.cli.main import told\n"
        "atexit.register(os._exit, 9)\n"
        "told(lambda: print('the answer', end=''))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "the answer")
