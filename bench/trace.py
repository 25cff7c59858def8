"""``edgeward trace`` of runs of 1,000 steps: the whole command as a process, and where its time goes.

A run of 1,000 inline steps and one of 1,000 queued steps, by a real worker on a real Temporal server, each
in its history. The command is started anew for every sample, with its modules compiled as an installed
program has them: from the start of the process to its end, as text and as JSON. Its parts are taken apart in
one process: the imports of a new interpreter, reading the history from the server, and telling the trace
from it. Every output is checked for its steps.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client

from bench.cold import with_bytecode
from bench.overhead_agents import Inline, Queued, application
from bench.report import at_most, percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.topology_file import write_topology
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.topology import Cell, Region, Topology
from orchestrator.trace import read_run
from orchestrator.trace.timeline import Timeline

STEPS = 1000
AGENTS: dict[str, Any] = {"inline": Inline, "queued": Queued}

GOAL_MS = 2000.0
"""Of the whole command, p99."""

WITHOUT_A_RUN = ("trace", "--help")
"""What the command takes before it does anything."""


@asynccontextmanager
async def recorded(folder: Path, steps: int) -> AsyncGenerator[tuple[Path, Client, dict[str, str]]]:
    """A server with a run of each kind in its history: its topology's file, its client, the runs' ids."""
    server = CellServer("here", *free_ports(3))
    known = Topology(
        cells=(Cell(name="here", region="here", address=server.address, namespace="here"),),
        regions=(Region(name="here", coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )
    async with Supervisor(folder) as supervisor:
        await start_cell(server, supervisor)
        worker = RegionWorker(known, "here", application)
        serving = asyncio.create_task(worker.serve())
        try:
            async with await EdgeClient.connect(known, application=application, watch=False) as client:
                ids: dict[str, str] = {}
                for kind, agent in AGENTS.items():
                    run = await client.start(agent.run, steps, origin="here")
                    ids[kind] = run.id
                    if await run.result() != steps:
                        raise SystemExit(f"the run of {kind} steps gave a wrong answer")
                yield write_topology(known, folder / "topology.toml"), client.cell("here"), ids
        finally:
            worker.stop()
            await serving


def command_ms(arguments: list[str], folder: Path) -> tuple[float, str]:
    """One process from start to end, and what it wrote."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env={**os.environ, **with_bytecode(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return (time.perf_counter() - began) * 1000, done.stdout


async def parts_ms(client: Client, workflow_id: str, steps: int) -> dict[str, float]:
    """Reading a history, telling its steps, and both with the run around them."""
    began = time.perf_counter()
    handle = client.get_workflow_handle(workflow_id)
    events = [event async for event in handle.fetch_history_events()]
    read = time.perf_counter()
    found = len(Timeline.of(events).steps())
    told = time.perf_counter()
    trace = await read_run(client, workflow_id)
    whole = time.perf_counter()
    if found != steps or len(trace.steps) != steps:
        raise SystemExit(f"{workflow_id} has {found} steps, not {steps}")
    return {
        "history read": (read - began) * 1000,
        "steps told": (told - read) * 1000,
        "whole trace": (whole - told) * 1000,
    }


async def measure(samples: int, steps: int) -> dict[tuple[str, str], list[float]]:
    times: dict[tuple[str, str], list[float]] = {}

    def took(kind: str, what: str, took_ms: float) -> None:
        times.setdefault((kind, what), []).append(took_ms)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with recorded(folder, steps) as (topology, client, ids):
            for number in range(samples + 1):
                counts = number > 0  # the first one writes the bytecode
                empty_ms, _ = await asyncio.to_thread(command_ms, list(WITHOUT_A_RUN), folder)
                if counts:
                    took("none", "command, its help only", empty_ms)
                for kind, workflow_id in ids.items():
                    for output in ("text", "json"):
                        line = ["trace", workflow_id, "--topology", str(topology), "--output", output]
                        whole_ms, told = await asyncio.to_thread(command_ms, line, folder)
                        check(told, output, steps)
                        if counts:
                            took(kind, f"command, {output}", whole_ms)
                    for what, part_ms in (await parts_ms(client, workflow_id, steps)).items():
                        if counts:
                            took(kind, what, part_ms)
    return times


def check(told: str, output: str, steps: int) -> None:
    if output == "json":
        found = len(json.loads(told)["steps"])
    else:
        found = sum(line.startswith(("*  ", "   ")) and "_step " in line for line in told.splitlines())
    if found != steps:
        raise SystemExit(f"the trace as {output} tells {found} steps, not {steps}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=trace", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=10 if quick else 30, help="of each command")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run")
    options = parser.parse_args(arguments)
    times = asyncio.run(measure(options.samples, options.steps))
    results = [
        {"steps": kind, "what": what, **summary(taken)} for (kind, what), taken in sorted(times.items())
    ]
    for result in results:
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    goals = [
        at_most(
            f"`edgeward trace` of {options.steps:,} {kind} steps, {what.removeprefix('command, ')} (p99, ms)",
            percentile(taken, 99),
            GOAL_MS,
        )
        for (kind, what), taken in sorted(times.items())
        if kind in AGENTS and what.startswith("command")
    ]
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('trace', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1
