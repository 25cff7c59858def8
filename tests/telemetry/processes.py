"""Workers and clients as processes of their own, as their environment has them tell."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.backends.double import Double
from tests.runtime.test_worker_process import event, events
from tests.telemetry.collector import Collector

CHECKOUT = Path(__file__).resolve().parent.parent.parent
APPLICATION = "tests.telemetry.agents:application"

QUEUES = ("agents", "code", "tool")

QUIET = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


@dataclass
class Traced:
    """A fleet whose processes tell a collector."""

    topology: Path
    collector: Collector
    http: str
    grpc: str
    echo: Double
    """The endpoint of the tool."""

    log: Path
    """What the workers wrote."""

    workers: AsyncExitStack
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    """By region."""

    async def start(self, region: str, environment: Mapping[str, str], *more: str) -> None:
        """Starts a region's worker, in place of one that has ended."""
        starting = worker(self.topology, region, environment, *more, log=self.log)
        self.processes[region] = await self.workers.enter_async_context(starting)

    def over_http(self, **more: str) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.http, **more}

    def over_grpc(self, **more: str) -> dict[str, str]:
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.grpc,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            **more,
        }

    async def call(
        self,
        *runs: tuple[str, str],
        text: str = "1",
        origin: str = "frankfurt",
        environment: Mapping[str, str],
    ) -> str:
        """Executes runs, given agents and ids, in a client's process; what that wrote to standard error."""
        asked = [{"agent": agent, "id": id, "text": text, "origin": origin} for agent, id in runs]
        return await command(
            "-m", "tests.telemetry.caller", str(self.topology), json.dumps(asked), environment=environment
        )


async def command(*arguments: str, environment: Mapping[str, str], code: int = 0) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=CHECKOUT,
        env={**QUIET, **environment},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(90):
        _, stderr = await process.communicate()
    assert process.returncode == code, stderr.decode()
    return stderr.decode()


@asynccontextmanager
async def worker(
    topology: Path, region: str, environment: Mapping[str, str], *more: str, log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """One that polls."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli", "worker", "run", APPLICATION),
        *("--region", region, "--topology", str(topology), "--log-format", "json", *more),
        cwd=CHECKOUT,
        env={**QUIET, **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    lines = events(process)
    reading: asyncio.Task[None] | None = None
    try:
        for _ in QUEUES:
            await event(lines, "queue.polled")
        reading = asyncio.create_task(keep(lines, log))
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


async def keep(lines: AsyncIterator[dict[str, object]], log: Path | None) -> None:
    async for line in lines:
        if log is not None:
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")


def logged(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]
