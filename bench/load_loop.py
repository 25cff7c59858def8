"""A closed loop over open runs, in blocks, and what each block used."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from bench.load_agents import BEFORE, STEPS
from bench.load_systems import System, processor_seconds, resident_bytes

AT_ONCE = 8
"""Open runs that are worked on at a time: enough to keep two cores busy, few enough that each takes many
turns in a block."""

STARTS_AT_ONCE = 8
"""While runs are only started: the worker takes most of the time then."""

SETTLED_WITHIN = timedelta(seconds=300)
ASK_EVERY = timedelta(milliseconds=250)


@dataclass(frozen=True, slots=True)
class Block:
    """What one system did in one stretch of time, alone."""

    seconds: float
    finish_ms: tuple[float, ...]
    """From the resumption of each run to its answer."""

    worker_cpu_s: float
    client_cpu_s: float
    server_cpu_s: float

    @property
    def runs(self) -> int:
        return len(self.finish_ms)

    @property
    def runs_per_s(self) -> float:
        return self.runs / self.seconds


async def block(system: System, kind: str, at_once: int, lasting: timedelta, server_pid: int) -> Block:
    """Keep as many runs open as there are now and ``at_once`` more: start one, finish the oldest.

    The run is started first, so that its first steps have been done when the block ends: the next
    block, which is the other system's, pays for none of them.
    """
    finish_ms: list[float] = []
    pids = (system.pid, os.getpid(), server_pid)
    used = [processor_seconds(pid) for pid in pids]
    began = time.perf_counter()
    ends = began + lasting.total_seconds()

    async def one_after_another() -> None:
        while time.perf_counter() < ends:
            await system.park(kind)
            oldest = system.parked[kind].popleft()
            resumed = time.perf_counter()
            await oldest.finish()
            finish_ms.append((time.perf_counter() - resumed) * 1000)

    async with asyncio.TaskGroup() as users:
        for _ in range(at_once):
            users.create_task(one_after_another())
    seconds = time.perf_counter() - began
    system.finished += len(finish_ms)
    worker, client, server = (processor_seconds(pid) - before for pid, before in zip(pids, used, strict=True))
    return Block(seconds, tuple(finish_ms), worker, client, server)


async def fill(system: System, counts: Mapping[str, int]) -> None:
    """Start runs until so many of each kind are parked."""
    missing = iter([kind for kind, count in counts.items() for _ in range(count - len(system.parked[kind]))])

    async def start_some() -> None:
        for kind in missing:
            await system.park(kind)

    async with asyncio.TaskGroup() as starting:
        for _ in range(STARTS_AT_ONCE):
            starting.create_task(start_some())


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker process holds once all its open runs are parked."""

    open_runs: int
    cached_runs: int
    resident_bytes: int
    cache_misses: int


def steps_done(system: System) -> int:
    """By all its worker processes, once its open runs are parked."""
    return system.finished * STEPS + system.open * BEFORE


async def settled(system: System, *, steps_before: int = 0) -> Held:
    """Wait until the worker has done every step that its open runs are parked behind.

    Args:
        system: Which one; nobody may work on its runs meanwhile.
        steps_before: How many of these steps an earlier process did.

    Raises:
        TimeoutError: They are not done in time.
    """
    expected = steps_done(system) - steps_before
    async with asyncio.timeout(SETTLED_WITHIN.total_seconds()):
        while True:
            beats = await system.heartbeats(system.pid)
            done = sum(
                slots.total_processed_tasks
                for beat in beats
                for slots in (beat.local_activity_slots_info, beat.activity_task_slots_info)
            )
            busy = sum(beat.workflow_task_slots_info.current_used_slots for beat in beats)
            if done >= expected and not busy:
                return Held(
                    open_runs=system.open,
                    cached_runs=sum(beat.current_sticky_cache_size for beat in beats),
                    resident_bytes=resident_bytes(system.pid),
                    cache_misses=sum(beat.total_sticky_cache_miss for beat in beats),
                )
            await asyncio.sleep(ASK_EVERY.total_seconds())
