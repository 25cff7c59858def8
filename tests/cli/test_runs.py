"""``edgeward runs list`` and ``edgeward setup`` as a user runs them, over two real cells."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.durations import duration_of, moment_of
from orchestrator.cli.main import app
from orchestrator.dispatch.visibility.search_attributes import TYPES
from orchestrator.errors import ConfigurationError
from tests.cli.listed_cells import TOPOLOGY, ListedCells, listed_cells
from tests.cli.test_commands import CHECKOUT, edgeward
from tests.signals import interruptible

NEWEST_FIRST = ["plan-abroad", "visit-european", "ask-unlisted", "ask-ended", "visit-ordinary"]


@pytest.fixture(scope="session")
async def cells(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ListedCells]:
    async with listed_cells(tmp_path_factory.mktemp("listed")) as cells:
        yield cells


async def runs(topology: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(edgeward, "runs", "list", "--topology", str(topology), *arguments)


async def ids(cells: ListedCells, *arguments: str) -> list[str]:
    """In this process: a process for each case would take longer than all of them."""
    words = ["runs", "list", "--topology", str(cells.topology), "--output", "json", *arguments]
    done = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert done.exit_code == 0, done.output
    return [run["run"] for run in json.loads(done.stdout)]


async def test_runs_of_all_cells_are_listed_the_newest_first(cells: ListedCells) -> None:
    done = await runs(cells.topology)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    title, heading, *rows = done.stdout.splitlines()
    assert title == "5 runs"
    assert re.split(r"  +", heading) == [
        *("run", "agent", "status", "home", "places", "started (UTC)", "took ms", "cell")
    ]
    assert [row.split()[0] for row in rows] == NEWEST_FIRST
    abroad = re.split(r"  +", rows[0])
    assert abroad[:5] == ["plan-abroad", "plan", "running", "frankfurt", "ashburn, frankfurt"]
    assert abroad[6].endswith(" so far")
    assert abroad[7] == "europe"
    unlisted, ordinary = re.split(r"  +", rows[2]), re.split(r"  +", rows[4])
    assert unlisted[1:5] == ["ask", "running", "ashburn", "–"], "its home is known from its task queue"
    assert ordinary[1:5] == ["Visit", "running", "–", "–"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--agent", "ask"), ["ask-unlisted", "ask-ended"]),
        (("--agent", "Visit"), ["visit-european", "visit-ordinary"]),
        (("--home", "frankfurt"), ["plan-abroad", "ask-ended"]),
        (("--home", "ashburn"), ["ask-unlisted"]),
        (("--status", "terminated"), ["ask-ended"]),
        (("--status", "running", "--agent", "ask"), ["ask-unlisted"]),
        (("--slower-than", "1h"), []),
        (("--slower-than", "0.001ms", "--home", "frankfurt"), ["plan-abroad", "ask-ended"]),
        (("--since", "1h", "--limit", "2"), ["plan-abroad", "visit-european"]),
        (("--since", "2099-01-01"), []),
        (("--agent", 'a" OR WorkflowType = "Visit'), []),
        (("--agent", "back\\slash"), []),
    ],
)
async def test_filters(cells: ListedCells, arguments: tuple[str, ...], expected: list[str]) -> None:
    assert await ids(cells, *arguments) == expected


async def test_a_cell_that_cannot_be_asked_for_places_says_so(cells: ListedCells) -> None:
    done = await runs(cells.topology, "--place", "ashburn", "--output", "json")
    assert done.returncode == 0
    assert [run["run"] for run in json.loads(done.stdout)] == ["plan-abroad"]
    assert "cell america is left out: namespace america does not know EdgewardPlaces" in done.stderr
    assert "edgeward setup" in done.stderr


async def test_a_run_as_json(cells: ListedCells) -> None:
    done = await runs(cells.topology, "--agent", "plan", "-o", "json")
    [run] = json.loads(done.stdout)
    assert run["places"] == ["ashburn", "frankfurt"]
    assert (run["home"], run["residency"], run["cell"]) == ("frankfurt", "EU", "europe")
    assert (run["status"], run["ended_at"], run["took_ms"], run["parent"]) == ("running", None, None, None)
    assert datetime.fromisoformat(run["started_at"]).tzinfo is not None


async def test_a_cell_that_is_down_is_told_and_the_others_are_shown(
    cells: ListedCells, tmp_path: Path
) -> None:
    file = tmp_path / "topology.toml"
    address = cells.europe.service_client.config.target_host
    file.write_text(TOPOLOGY.format(europe=address, america="127.0.0.1:1"), encoding="utf-8")
    done = await runs(file)
    assert done.returncode == 0
    assert [row.split()[0] for row in done.stdout.splitlines()[2:]] == [
        *("plan-abroad", "visit-european", "ask-ended")
    ]
    assert done.stderr.startswith("cell america is left out: ")


@pytest.mark.parametrize("output", ["text", "json"])
async def test_no_cell_at_all_is_an_error(tmp_path: Path, output: str) -> None:
    file = tmp_path / "topology.toml"
    file.write_text(TOPOLOGY.format(europe="127.0.0.1:1", america="127.0.0.1:1"), encoding="utf-8")
    done = await runs(file, "--output", output)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "edgeward: no cell could list its runs" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--slower-than", "fast"), "--slower-than 'fast' is no duration; write one like 500ms"),
        (("--since", "yesterday"), "--since 'yesterday' is no moment"),
        (("--since", "999999999d"), "is no moment"),
        (("--status", "broken"), "broken"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    file = tmp_path / "topology.toml"
    file.write_text(TOPOLOGY.format(europe="127.0.0.1:1", america="127.0.0.1:1"), encoding="utf-8")
    done = CliRunner().invoke(app, ["runs", "list", "--topology", str(file), *arguments])
    assert done.exit_code == 2 or isinstance(done.exception, ConfigurationError)
    assert told in " ".join(f"{done.output} {done.exception}".split())


def test_it_can_be_interrupted(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        file = tmp_path / "topology.toml"
        file.write_text(TOPOLOGY.format(europe=address, america=address), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", "runs", "list", "--topology", str(file)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ},
            preexec_fn=interruptible,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()  # it asks, and is not answered
        with connection:
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told


async def test_setup_registers_what_is_missing_and_says_what_it_did(tmp_path: Path) -> None:
    async with listed_cells(tmp_path) as cells:
        setup = ("setup", "--topology", str(cells.topology))
        wrong = await asyncio.to_thread(edgeward, *setup, "--cell", "asia")
        assert wrong.returncode == 2
        assert "name one of america, europe" in wrong.stderr
        done = await asyncio.to_thread(edgeward, *setup)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            f"cell europe  had {', '.join(TYPES)} already",
            f"cell america  registered {', '.join(TYPES)}",
        ]
        again = await asyncio.to_thread(edgeward, *setup, "--cell", "america", "--output", "json")
        assert json.loads(again.stdout) == [
            {"cell": "america", "added": [], "present": list(TYPES), "error": None}
        ]
        # runs from before stay findable, by workflow type and task queue
        assert await ids(cells, "--home", "ashburn") == ["ask-unlisted"]
        assert await ids(cells, "--place", "ashburn") == ["plan-abroad"]
        file = tmp_path / "half.toml"
        address = cells.europe.service_client.config.target_host
        file.write_text(TOPOLOGY.format(europe="127.0.0.1:1", america=address), encoding="utf-8")
        half = await asyncio.to_thread(edgeward, "setup", "-t", str(file), "-o", "json")
        assert half.returncode == 1
        errors = {row["cell"]: row["error"] for row in json.loads(half.stdout)}
        assert "europe" in errors
        assert errors["europe"]
        assert "edgeward: not set up: " in half.stderr
        assert "Traceback" not in half.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("2s", timedelta(seconds=2)),
        ("1.5 m", timedelta(seconds=90)),
        ("3h", timedelta(hours=3)),
        ("7d", timedelta(days=7)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert duration_of(text, "--slower-than") == expected


@pytest.mark.parametrize("text", ["", "2", "-2s", "2 weeks", "s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no duration"):
        duration_of(text, "--slower-than")


def test_moments() -> None:
    assert moment_of("2026-11-25", "--since") == datetime(2026, 11, 25, tzinfo=UTC)
    assert moment_of("2026-11-25T08:00+01:00", "--since") == datetime(2026, 11, 25, 7, tzinfo=UTC)
    assert moment_of("2h", "--since") < datetime.now(UTC)
