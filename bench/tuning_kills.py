"""What a killed worker costs its runs, by workflow task timeout and sticky timeout."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from bench.report import percentile
from bench.tuning_agents import HANGS, Busy, Waiting, application
from orchestrator import EdgeClient, EdgeRun
from orchestrator.client import submission
from orchestrator.dev.model_server import is_healthy
from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports
from orchestrator.dev.topology_file import write_topology
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Region, Topology

TEMPORALS = 10.0
"""Temporal's own, in seconds, for both timeouts."""

STICKY_S = {"short": 2.0, "long": TEMPORALS}
"""Sticky timeout of the workers of each region."""

TASK_S = (5.0, TEMPORALS)


def two_regions(address: str) -> Topology:
    """So far apart that the runs of each stay there; both have the same server."""
    places = dict(zip(STICKY_S, (Coordinates(50.1, 8.7), Coordinates(1.3, 103.8)), strict=True))
    return Topology(
        cells=tuple(Cell(name=name, region=name, address=address, namespace="here") for name in places),
        regions=tuple(
            Region(name=name, coordinates=where, country="DE", cell=name, serves=(name,))
            for name, where in places.items()
        ),
    )


async def kills(address: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One worker killed a round and sticky timeout, with a run in each situation."""
    topology = two_regions(address)
    file = write_topology(topology, folder / "kills.toml")
    taken: dict[tuple[str, str], list[float]] = {}
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        for _ in range(rounds):
            both = await asyncio.gather(*(_kill(client, file, region) for region in STICKY_S))
            for region, found in zip(STICKY_S, both, strict=True):
                for situation, took_s in found.items():
                    taken.setdefault((region, situation), []).append(took_s)
    return [
        {
            "what": "killed worker",
            "situation": situation,
            "sticky_s": STICKY_S[region],
            "continues_p50_s": round(percentile(values, 50), 2),
            "continues_max_s": round(max(values), 2),
            "n": len(values),
        }
        for (region, situation), values in taken.items()
    ]


async def _kill(client: EdgeClient, topology: Path, region: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Supervisor(folder) as processes:
            killed, heir = await asyncio.gather(
                Heir.load(processes, topology, region, folder / "killed", environment={HANGS: "1"}),
                Heir.load(processes, topology, region, folder / "heir", environment={}),
            )
            await killed.serve()
            waiting = await client.start(Waiting.run, 1, origin=region)
            await _until_events(waiting, 4)  # its first workflow task is done: the worker has it in its cache
            busy = [await _start_busy(client, region, task_s) for task_s in TASK_S]
            await asyncio.gather(*(_until_events(run, 3) for run in busy))
            killed.process.kill()
            began = time.perf_counter()
            # else the server hands the task to the worker that is about to die, and that is the case above
            await killed.process.exited()
            await waiting.handle.signal(Waiting.tell)
            serving = asyncio.create_task(heir.serve())
            times = await asyncio.gather(*(_until_result(run, began) for run in (*busy, waiting)))
            await serving
    names = [*(f"in a workflow task, task timeout {task_s:g} s" for task_s in TASK_S), "waiting for a signal"]
    return dict(zip(names, times, strict=True))


@dataclass(frozen=True)
class Heir:
    """A worker's process that has loaded everything and can serve at once."""

    process: ChildProcess
    control: str
    begin: Path

    @classmethod
    async def load(
        cls, processes: Supervisor, topology: Path, region: str, begin: Path, *, environment: dict[str, str]
    ) -> Self:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        arguments = [str(topology), region, str(STICKY_S[region]), address, str(begin)]
        process = await processes.start(
            begin.name, [sys.executable, "-m", "bench.tuning_worker", *arguments], environment=environment
        )

        async def loaded() -> bool:
            return "loaded" in process.log_tail()

        await process.until_ready(loaded, within=timedelta(seconds=60))
        return cls(process, f"http://{address}", begin)

    async def serve(self) -> None:
        self.begin.touch()
        await self.process.until_ready(
            lambda: is_healthy(f"{self.control}/readyz"), within=timedelta(seconds=60)
        )


async def _start_busy(client: EdgeClient, region: str, task_s: float) -> EdgeRun[int]:
    with _task_timeout(task_s):
        return await client.start(Busy.run, 1, origin=region)


@contextmanager
def _task_timeout(seconds: float) -> Iterator[None]:
    before = submission.TASK_TIMEOUT
    submission.TASK_TIMEOUT = timedelta(seconds=seconds)
    try:
        yield
    finally:
        submission.TASK_TIMEOUT = before


async def _until_events(run: EdgeRun[int], count: int) -> None:
    while len((await run.handle.fetch_history()).events) < count:
        await asyncio.sleep(0.02)


async def _until_result(run: EdgeRun[int], began: float) -> float:
    answer = await run.result()
    assert answer == 1, f"{run.id} answered {answer}"
    return time.perf_counter() - began
