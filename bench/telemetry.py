"""What spans and metrics cost a run of five steps: off, on without an exporter, exporting over OTLP.

One region with one cell. Each variant is a process of its own, with the region's worker and a client of
it, set up by its environment as an operator would; the collector is one more, and throws away what it has
received whole. The processes take turns, one run each, in another order each time; every answer is checked.
The processor's time is that of the measured process, p50.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.overhead_agents import Inline, Queued, application
from bench.report import at_most, percentile, summary, write
from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, event_loop
from orchestrator.topology import Cell, Region, Topology

STEPS = 5
AGENTS: dict[str, Any] = {"inline": Inline, "queued": Queued}
VARIANTS = ("off", "on", "exporting")
GOAL_RATIO = 1.03
"""Of a run's time, on and exporting over off, p50."""


def topology(address: str, name: str) -> Topology:
    """A region of this name, so that each process has queues of its own."""
    return Topology(
        cells=(Cell(name="here", region=name, address=address, namespace="here"),),
        regions=(Region(name=name, coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )


async def collect(port: int) -> None:
    async def take(request: Request) -> Response:
        await request.body()
        return Response(media_type="application/x-protobuf")

    app = Starlette(
        routes=[Route(f"/v1/{signal}", take, methods=["POST"]) for signal in ("traces", "metrics")]
    )
    await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


async def serve(address: str, name: str) -> None:
    """Runs an agent for each line of standard input, and says how long it took."""
    if name == "on":
        trace.set_tracer_provider(TracerProvider())
        metrics.set_meter_provider(MeterProvider())
    known = topology(address, name)
    worker = RegionWorker(known, name, application)
    serving = asyncio.create_task(worker.serve())
    while worker.client("here") is None:
        await asyncio.sleep(0.02)
    async with await EdgeClient.connect(known, application=application, watch=False) as client:
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            started, worked = time.perf_counter(), time.process_time()
            answer = await client.execute(AGENTS[json.loads(line)].run, STEPS, origin=name)
            took_ms = (time.perf_counter() - started) * 1000
            cpu_ms = (time.process_time() - worked) * 1000
            print(json.dumps({"took_ms": took_ms, "cpu_ms": cpu_ms, "answer": answer}), flush=True)
    worker.stop()
    await serving


@asynccontextmanager
async def child(*arguments: str, **environment: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.telemetry", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**quiet, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemExit("a measured process ended early")
    return json.loads(line)


Times = dict[tuple[str, str], list[float]]


async def measure(samples: int, chance: random.Random) -> tuple[Times, Times]:
    server, collector = CellServer("here", *free_ports(3)), free_ports(1)[0]
    times: Times = {}
    cpu: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        async with Supervisor(Path(folder)) as supervisor, AsyncExitStack() as children:
            await start_cell(server, supervisor)
            await children.enter_async_context(child("collect", str(collector)))
            told = {"exporting": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}"}}
            processes = {
                name: await children.enter_async_context(
                    child("serve", server.address, name, **told.get(name, {}))
                )
                for name in VARIANTS
            }
            for process in processes.values():
                await said(process)
            for number in range(samples + 10):
                for agent in AGENTS:
                    for name in chance.sample(VARIANTS, len(VARIANTS)):
                        took_ms, cpu_ms = await one(processes[name], agent)
                        if number >= 10:  # the first ones warm connections and caches
                            times.setdefault((agent, name), []).append(took_ms)
                            cpu.setdefault((agent, name), []).append(cpu_ms)
    return times, cpu


async def one(process: asyncio.subprocess.Process, agent: str) -> tuple[float, float]:
    assert process.stdin is not None
    process.stdin.write(json.dumps(agent).encode() + b"\n")
    answer = await said(process)
    if answer["answer"] != STEPS:
        raise SystemExit(f"wrong answer: {answer}")
    return answer["took_ms"], answer["cpu_ms"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=telemetry", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=40 if quick else 1200, help="runs of each variant")
    parser.add_argument("--seed", type=int, default=7, help="of the order of the variants")
    options = parser.parse_args(arguments)
    times, cpu = asyncio.run(measure(options.samples, random.Random(options.seed)))
    results = [
        {
            "agent": agent,
            "variant": name,
            **summary(times[agent, name]),
            "processor_ms": round(percentile(cpu[agent, name], 50), 3),
        }
        for agent, name in times
    ]
    for result in sorted(results, key=lambda result: (result["agent"], VARIANTS.index(result["variant"]))):
        print("  ".join(f"{key} {value}" for key, value in result.items()))
    goals = [
        at_most(
            f"a run of five {agent} steps, {name} over off (p50)",
            percentile(times[agent, name], 50) / percentile(times[agent, "off"], 50),
            GOAL_RATIO,
        )
        for agent in AGENTS
        for name in VARIANTS[1:]
    ]
    for goal in goals:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"written to {write('telemetry', results, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    what, *rest = sys.argv[1:]
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(collect(int(rest[0])) if what == "collect" else serve(*rest))
