"""The first runs after a worker starts, with and without its warm-up, for old clients and new ones."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.cold_agents import AGENTS, application
from bench.cold_client import timed_runs
from bench.report import percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.model_server import MODEL, is_healthy, start_model_server
from orchestrator.dev.processes import ChildProcess, Supervisor, default_threads, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.topology_file import write_topology
from orchestrator.dev.weights import chat_weights
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Offer, Region, Topology

RUNS = 10
"""After each start, one after another."""

GOAL_RATIO = 10
"""First run over second run, p50."""

READY_WITHIN = timedelta(seconds=60)

APPLICATION = "bench.cold_agents:application"

WORKERS = {
    "warmed": ["orchestrator.cli", "worker", "run", APPLICATION, "--region", "here", "--topology"],
    "not warmed": ["bench.cold_worker"],
}
"""How the worker is started, less its topology: as a user does, and the same without its warm-up."""

CLIENTS = ("ran before", "new process")


@dataclass(frozen=True)
class Variant:
    agent: str
    worker: str
    client: str


@dataclass(frozen=True)
class Sample:
    """One start of a worker: how long until it was ready, and its first runs."""

    ready_ms: float
    runs_ms: tuple[float, ...]


class Bench:
    """A cell that stays, and workers that come and go."""

    def __init__(self, folder: Path, address: str, control: str, model_port: int) -> None:
        self._folder = folder
        self._control = control
        self._model_port = model_port
        chat = Offer(
            kind="model", name="chat", endpoint=f"http://127.0.0.1:{model_port}/v1", target=MODEL, slots=4
        )
        here = Region(
            name="here",
            coordinates=Coordinates(50.1, 8.7),
            country="DE",
            cell="here",
            offers=(chat,),
            control=control,
        )
        self.topology = Topology(
            cells=(Cell(name="here", region="here", address=address, namespace="here"),), regions=(here,)
        )
        self._file = write_topology(self.topology, folder / "topology.toml")

    async def sample(self, variant: Variant, ran_before: EdgeClient) -> Sample:
        """Starts a worker, and for an agent that asks the model a model server, and runs the agent."""
        async with Supervisor(self._folder) as processes:
            if variant.agent == "model":
                await start_model_server(
                    processes, port=self._model_port, threads=default_threads(), weights=chat_weights()
                )
            if variant.client == "ran before":
                ready_ms = await self._start_worker(variant.worker, processes)
                return Sample(ready_ms, tuple(await timed_runs(ran_before, variant.agent, RUNS)))
            async with new_client(self._file, variant.agent, with_bytecode(self._folder)) as client:
                ready_ms = await self._start_worker(variant.worker, processes)
                return Sample(ready_ms, await client.runs_ms())

    async def _start_worker(self, kind: str, processes: Supervisor) -> float:
        began = time.perf_counter()
        command = [sys.executable, "-m", *WORKERS[kind], str(self._file)]
        worker: ChildProcess = await processes.start(
            "worker", command, environment=with_bytecode(self._folder)
        )
        await worker.until_ready(
            lambda: is_healthy(f"{self._control}/readyz"),
            within=READY_WITHIN,
            every=timedelta(milliseconds=10),
        )
        return (time.perf_counter() - began) * 1000


class NewClient:
    """A client's process that has imported what it needs and waits for the word."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def runs_ms(self) -> tuple[float, ...]:
        """Of its first run with connecting, and of those after it."""
        out, _ = await self._process.communicate(b"go\n")
        assert self._process.returncode == 0, "the client's process failed; see its messages above"
        told: dict[str, Any] = json.loads(out.splitlines()[-1])
        first, *later = told["runs_ms"]
        return (told["connect_ms"] + first, *later)


@asynccontextmanager
async def new_client(topology: Path, agent: str, environment: Mapping[str, str]) -> AsyncGenerator[NewClient]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.cold_client", str(topology), agent, str(RUNS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield NewClient(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def with_bytecode(folder: Path) -> dict[str, str]:
    """Environment of processes whose modules are compiled already, whatever this process was told.

    An installed program has its bytecode; here the samples that do not count write it.
    """
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


async def measure(variants: Sequence[Variant], starts: int) -> dict[Variant, list[Sample]]:
    port, http_port, metrics_port, control_port, model_port = free_ports(5)
    server = CellServer("here", port, http_port, metrics_port)
    samples: dict[Variant, list[Sample]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor:
            await start_cell(server, supervisor)
            bench = Bench(Path(folder), server.address, f"http://127.0.0.1:{control_port}", model_port)
            async with await EdgeClient.connect(
                bench.topology, application=application, watch=False
            ) as ran_before:
                for worker, client in zip(WORKERS, CLIENTS, strict=True):
                    # not counted: they give the client a past, and all processes their bytecode
                    await bench.sample(Variant("sandboxed", worker, client), ran_before)
                for _ in range(starts):
                    for variant in variants:
                        samples[variant].append(await bench.sample(variant, ran_before))
    return samples


def result(variant: Variant, samples: Sequence[Sample]) -> dict[str, Any]:
    """The p50 of each run after a start, and how much longer the first one took than the second."""
    of_run = [[sample.runs_ms[number] for sample in samples] for number in range(RUNS)]
    first, second = summary(of_run[0]), summary(of_run[1])
    return {
        "agent": variant.agent,
        "worker": variant.worker,
        "client": variant.client,
        "ready_p50_ms": round(percentile([sample.ready_ms for sample in samples], 50)),
        "first": first,
        "second": second,
        "later": summary([run for later in of_run[2:] for run in later]),
        "run_p50_ms": [round(percentile(runs, 50), 1) for runs in of_run],
        "first_over_second": round(first["p50_ms"] / second["p50_ms"], 2),
        "n": len(samples),
    }


def goal(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"first run over second, p50: {found['agent']} agent, client: {found['client']}",
        "value": found["first_over_second"],
        "bound": GOAL_RATIO,
        "holds": found["first_over_second"] <= GOAL_RATIO,
    }


def table(results: Sequence[dict[str, Any]]) -> None:
    print(f"{'agent':12} {'worker':11} {'client':12} {'ready':>6} {'first p50':>10} {'p95':>7} ", end="")
    print(f"{'second':>7} {'later':>7} {'ratio':>6} {'n':>3}   ms of runs 1, 2, …")
    for row in results:
        print(
            f"{row['agent']:12} {row['worker']:11} {row['client']:12} {row['ready_p50_ms']:6.0f} "
            f"{row['first']['p50_ms']:10.1f} {row['first']['p95_ms']:7.1f} {row['second']['p50_ms']:7.1f} "
            f"{row['later']['p50_ms']:7.1f} {row['first_over_second']:6.2f} {row['n']:3}   "
            f"{' '.join(map(str, row['run_p50_ms']))}"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=cold", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument(
        "--starts", type=int, default=2 if quick else 10, help="of a worker, for each variant"
    )
    parser.add_argument("--agent", choices=AGENTS, help="one agent")
    options = parser.parse_args(arguments)
    agents = [options.agent] if options.agent else AGENTS
    variants = [Variant(agent, worker, CLIENTS[0]) for agent in agents for worker in WORKERS]
    if not quick:
        variants += [Variant(agent, "warmed", CLIENTS[1]) for agent in agents]
    samples = asyncio.run(measure(variants, options.starts))
    results = [result(variant, taken) for variant, taken in samples.items()]
    table(results)
    goals = [goal(found) for found in results if found["worker"] == "warmed"]
    for one in goals:
        print("  ".join(f"{key} {value}" for key, value in one.items()))
    print(f"written to {write('cold', results, goals)}")
    return 0 if all(one["holds"] for one in goals) else 1
