"""``edgeward trace`` as a user has it, while one of two cells is down."""

import asyncio
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client

from orchestrator import EdgeClient, load_topology
from tests.trace.agents import Pair, application
from tests.trace.plain_workflows import Patient

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Traced:
    file: Path
    workflow_id: str
    run_id: str

    async def trace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "orchestrator.cli", "trace", *arguments, "--topology", str(self.file)],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )


@pytest.fixture(scope="module")
async def traced_run(file: Path) -> Traced:
    """A run in the cell that is there."""
    topology = load_topology(file)
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        run = await client.start(Pair.run, 20, origin="here")
        await run.result()
        assert run.run_id is not None
        return Traced(file, run.id, run.run_id)


async def test_a_cell_that_is_down_is_a_note_and_the_run_is_shown(traced_run: Traced) -> None:
    told = await traced_run.trace(traced_run.workflow_id)
    assert told.returncode == 0
    assert "cell gone is left out: " in told.stderr
    assert "Traceback" not in told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == f"Pair · {traced_run.workflow_id}"
    assert lines[-1].startswith("slowest: ")
    assert f"ms of {lines[1].split(' · ')[1].split(' ')[0]}" in lines[-1]


async def test_for_programs_the_slowest_part_is_told_too(traced_run: Traced) -> None:
    found = json.loads((await traced_run.trace(traced_run.workflow_id, "--output", "json")).stdout)
    slowest = found["slowest"]
    assert slowest["of_ms"] == found["wall_ms"]
    assert 0 < slowest["took_ms"] <= slowest["of_ms"]
    assert slowest["place"] == "here"
    parts = [
        took_ms
        for agent in (found, *found["sub_agents"])
        for step in agent["steps"]
        if step["on_critical_path"] and agent["on_critical_path"]
        for part, took_ms in step["parts"].items()
        if part.endswith("_ms") and part not in ("sum_ms", "clock_skew_ms")
    ]
    assert slowest["took_ms"] >= max(parts)


async def test_temporals_run_id_will_do(traced_run: Traced) -> None:
    async with asyncio.timeout(60):
        while (told := await traced_run.trace(traced_run.run_id)).returncode:
            pass  # the server lists a run some time after it has ended
    assert told.stdout.splitlines()[0] == f"Pair · {traced_run.workflow_id}"


async def test_an_unknown_run_says_which_cells_were_asked(traced_run: Traced) -> None:
    for unknown in ("nobody", str(uuid.uuid4())):
        told = await traced_run.trace(unknown)
        assert (told.returncode, told.stdout) == (1, "")
        assert f"run {unknown}: unknown in cell here; not asked: cell gone" in told.stderr


async def test_a_run_that_nobody_serves_is_drawn_without_steps(traced_run: Traced) -> None:
    cell = load_topology(traced_run.file).cell("here")
    assert cell.address is not None
    client = await Client.connect(cell.address, namespace=cell.namespace or "default")
    handle = await client.start_workflow(
        Patient.run, False, id=f"unserved-{uuid.uuid4()}", task_queue="nobody-polls"
    )
    told = await traced_run.trace(handle.id)
    assert told.returncode == 0
    assert "cell here" in told.stdout
    assert "Patient · home – · " in told.stdout
    assert "running, no steps" in told.stdout
    assert "no worker polls" in told.stdout
    assert "was started without a plan" in told.stderr
    await handle.terminate(reason="seen")
