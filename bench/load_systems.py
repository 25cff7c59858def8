"""The two systems under load: how a run is started, resumed and awaited, and what its worker uses."""

import asyncio
import itertools
import os
import sys
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, ListWorkersRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import WorkflowAlreadyStartedError

from bench.load_agents import PLAIN_AGENTS, STEPS, Inline, PlainInline, PlainQueued, Queued
from bench.load_worker import HERE
from orchestrator import EdgeClient
from orchestrator.dev.processes import ChildProcess, Supervisor
from orchestrator.dispatch import TASK_TIMEOUT
from orchestrator.errors import CellUnavailableError
from orchestrator.queues import agents_queue

CHECKOUT = Path(__file__).resolve().parent.parent

KINDS = ("inline", "queued")

READY_WITHIN = timedelta(seconds=60)

STOPPED_WITHIN = timedelta(seconds=60)
"""A worker lets go of all its cached runs first."""


ANSWERED_WITHIN = timedelta(seconds=60)
"""Longer than any load here explains: the worker has failed."""

TRY_AGAIN_AFTER = timedelta(seconds=1)
"""Where the server does not confirm a start: a cell that was silent is refused at once until it answers."""


class WrongAnswerError(Exception):
    """A run returned something else than its steps add up to."""


class Waiting(Protocol):
    async def result(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that was started and not resumed yet."""

    number: int
    handle: WorkflowHandle[Any, int]
    waiting: Waiting
    """Whatever the system's own user waits on."""

    async def finish(self) -> None:
        """Resume it and wait for its answer.

        Raises:
            WrongAnswerError: The answer is another one.
            TimeoutError: There is none.
        """
        async with asyncio.timeout(ANSWERED_WITHIN.total_seconds()):
            await self.handle.signal("resume")
            answer = await self.waiting.result()
        if answer != self.number + STEPS:
            raise WrongAnswerError(f"run {self.handle.id} of {self.number} answered {answer}")


Start = Callable[[str, int], Awaitable[OpenRun]]


@dataclass
class System:
    """One of the two, with its worker process and its open runs.

    Attributes:
        parked: Its open runs that nobody works on, oldest first, by kind.
        finished: How many runs it answered.
    """

    name: str
    agents_queue: str
    start: Start
    client: Client
    """Reads what its worker's heartbeats say."""

    parked: dict[str, deque[OpenRun]] = field(default_factory=lambda: {kind: deque() for kind in KINDS})
    finished: int = 0
    worker: ChildProcess | None = None
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    async def park(self, kind: str) -> None:
        """Start one more run; it does its first steps and waits."""
        self.parked[kind].append(await self.start(kind, next(self._numbers)))

    def set_aside(self, kind: str) -> None:
        """Leave the parked runs of a kind as they are from now on: nobody resumes them."""
        self.parked[f"{kind}, set aside"] = self.parked[kind]
        self.parked[kind] = deque()

    @property
    def open(self) -> int:
        return sum(map(len, self.parked.values()))

    async def start_worker(self, supervisor: Supervisor, address: str, cached_runs: int, label: str) -> None:
        """Start its worker process and wait until it polls."""
        arguments = [self.name, address, str(cached_runs)]
        self.worker = await supervisor.start(
            f"worker {self.name} {label}",
            [sys.executable, "-m", "bench.load_worker", *arguments],
            environment={"PYTHONPATH": str(CHECKOUT)},
        )
        pid = self.worker.pid

        async def serves() -> bool:
            return await self._is_polled() and bool(await self.heartbeats(pid))

        await self.worker.until_ready(serves, within=READY_WITHIN)

    async def stop_worker(self) -> None:
        """Let its worker process drain and end; its open runs stay in the server."""
        if self.worker is not None:
            await self.worker.stop(grace=STOPPED_WITHIN)

    def failure(self, what: str) -> Exception:
        """An error that ends with the last lines of its worker's log."""
        return self.worker.failure(what) if self.worker else RuntimeError(f"{self.name}: {what}")

    async def _is_polled(self) -> bool:
        found = await self.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=HERE,
                task_queue=TaskQueue(name=self.agents_queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            )
        )
        return bool(found.pollers)

    async def heartbeats(self, pid: int) -> list[Any]:
        """What the workers in that process last told the server."""
        page = await self.client.workflow_service.list_workers(ListWorkersRequest(namespace=HERE))
        beats = [worker.worker_heartbeat for worker in page.workers_info]
        return [beat for beat in beats if beat.host_info.process_id == str(pid)]

    @property
    def pid(self) -> int:
        if self.worker is None:
            raise RuntimeError(f"{self.name} has no worker yet")
        return self.worker.pid


def edgeward(client: EdgeClient) -> System:
    agents: dict[str, Any] = {"inline": Inline.run, "queued": Queued.run}

    async def start(kind: str, number: int) -> OpenRun:
        run_id = f"{kind}-{uuid.uuid4().hex}"
        while True:
            # a server that is busy with thousands of runs may take longer to confirm one than a client waits
            try:
                run = await client.start(agents[kind], number, origin=HERE, id=run_id)
            except CellUnavailableError:
                await asyncio.sleep(TRY_AGAIN_AFTER.total_seconds())
                continue
            except WorkflowAlreadyStartedError:
                handle = client.cell(HERE).get_workflow_handle_for(agents[kind], run_id)
                return OpenRun(number, handle, handle)
            return OpenRun(number, run.handle, run)

    return System("edgeward", agents_queue(HERE), start, client.cell(HERE))


def plain(client: Client) -> System:
    workflows: dict[str, Any] = {"inline": PlainInline.run, "queued": PlainQueued.run}

    async def start(kind: str, number: int) -> OpenRun:
        handle = await client.start_workflow(
            workflows[kind],
            number,
            id=f"plain-{kind}-{uuid.uuid4().hex}",
            task_queue=PLAIN_AGENTS,
            task_timeout=TASK_TIMEOUT,
        )
        return OpenRun(number, handle, handle)

    return System("plain", PLAIN_AGENTS, start, client)


def resident_bytes(pid: int) -> int:
    """Memory of a process: ``VmRSS`` of ``/proc``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def processor_seconds(pid: int) -> float:
    """What a process has used of all cores so far, in user and kernel mode."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, kernel = int(after_name[11]), int(after_name[12])
    return (user + kernel) / os.sysconf("SC_CLK_TCK")
