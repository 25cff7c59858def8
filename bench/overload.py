"""Five times as many runs as a region can do: what is answered in time, and how fast the others are refused.

A run has one step of 200 ms. *Queued*: the region has four slots for it, and further steps wait in the queue,
which the fleet's view sees. *Inline*: the step runs in the home's worker and waits for a backend that serves
four at a time, which nobody sees but by how fast runs end. Capacity is measured first, by as many users as
keep all slots busy. Then runs start at five times that rate, whatever becomes of them, and who is refused
does not try again. Goodput: answers within 10 s, in the time in which runs start.

One server, one worker, and this client, in three processes. The step sleeps, so that what is overloaded is
the region and not the machine.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from temporalio import workflow

from bench.report import at_most, percentile, write
from orchestrator import Application, EdgeClient, Needs, agent, call, step
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.errors import AdmissionRefusedError
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker, event_loop
from orchestrator.topology import Cell, Offer, Region, Topology

HERE = "eu-central"
SLOTS = 4
TAKES = timedelta(milliseconds=200)
TIMES = 5
IN_TIME = timedelta(seconds=10)
"""An answer that comes later is of no use to its user."""

PATIENCE = timedelta(seconds=60)
"""After the last start; an accepted run without an answer by then hangs."""

USERS = 3 * SLOTS
"""Who keep all slots busy while capacity is measured."""

backend = asyncio.Semaphore(SLOTS)


@step(needs=Needs(tool="press"), dispatch="queue", expected=TAKES)
async def queued() -> None:
    await asyncio.sleep(TAKES.total_seconds())


@step(dispatch="inline", expected=TAKES)
async def inline() -> None:
    async with backend:
        await asyncio.sleep(TAKES.total_seconds())


@agent(steps={queued: 1}, sandboxed=False)
class Queued:
    @workflow.run
    async def run(self) -> None:
        await call(queued)


@agent(steps={inline: 1}, sandboxed=False)
class Inline:
    @workflow.run
    async def run(self) -> None:
        await call(inline)


application = Application(agents=[Queued, Inline], steps=[queued, inline])


@dataclass
class Seen:
    """What became of the runs. In seconds."""

    took: list[float] = field(default_factory=list[float])
    in_time: int = 0
    refused: list[float] = field(default_factory=list[float])
    hung: int = 0


def topology(address: str, control: int) -> Topology:
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press", slots=SLOTS)
    return Topology(
        cells=(Cell(name=HERE, region=HERE, address=address, namespace=HERE),),
        regions=(
            Region(
                name=HERE,
                coordinates=Coordinates(50.1, 8.7),
                country="DE",
                cell=HERE,
                control=f"http://127.0.0.1:{control}",
                offers=(press,),
            ),
        ),
        source="the overload bench",
    )


async def capacity(client: EdgeClient, what: type[Queued] | type[Inline], lasts: timedelta) -> float:
    """Answers a second to users who each wait for theirs."""
    ends = time.monotonic() + lasts.total_seconds()
    answered = 0

    async def user() -> None:
        nonlocal answered
        while time.monotonic() < ends:
            await (await client.start(what.run, origin=HERE)).result()
            answered += time.monotonic() <= ends

    async with asyncio.TaskGroup() as users:
        for _ in range(USERS):
            users.create_task(user())
    return answered / lasts.total_seconds()


async def overload(
    client: EdgeClient, what: type[Queued] | type[Inline], per_s: float, lasts: timedelta
) -> Seen:
    """Starts runs at a rate, whatever becomes of them."""
    seen = Seen()
    began = time.monotonic()
    ends = began + lasts.total_seconds()

    async def user() -> None:
        asked = time.monotonic()
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + (PATIENCE + lasts).total_seconds()
            ):
                run = await client.start(what.run, origin=HERE)
                await run.result()
        except AdmissionRefusedError:
            seen.refused.append(time.monotonic() - asked)
            return
        except TimeoutError:
            seen.hung += 1
            return
        now = time.monotonic()
        seen.took.append(now - asked)
        seen.in_time += now - asked <= IN_TIME.total_seconds() and now <= ends

    async with asyncio.TaskGroup() as users:
        for number in range(int(per_s * lasts.total_seconds())):
            await asyncio.sleep(max(0.0, began + number / per_s - time.monotonic()))
            users.create_task(user())
    return seen


async def measure(lasts: timedelta) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(
            Supervisor(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        )
        port, http_port, metrics_port, control = free_ports(4)
        server = CellServer(HERE, port, http_port, metrics_port)
        await start_cell(server, supervisor)
        known = topology(server.address, control)
        serve = [sys.executable, "-m", "bench.overload", server.address, str(control)]
        await supervisor.start("worker", serve)
        for name, what in (("queued", Queued), ("inline", Inline)):
            async with await EdgeClient.connect(known, application=application) as client:
                await capacity(client, what, lasts / 4)
                most = await capacity(client, what, lasts / 2)
                rows.append(row(name, most, await overload(client, what, TIMES * most, lasts), lasts))
                print(rows[-1], flush=True)
    return rows


def row(name: str, most: float, seen: Seen, lasts: timedelta) -> dict[str, Any]:
    goodput = seen.in_time / lasts.total_seconds()
    refused_ms = [1000 * seconds for seconds in seen.refused]
    return {
        "variant": name,
        "capacity_per_s": round(most, 1),
        "goodput_per_s": round(goodput, 1),
        "goodput_percent": round(100 * goodput / most, 1),
        "accepted": len(seen.took) + seen.hung,
        "accepted_p99_s": round(percentile(seen.took, 99), 2) if seen.took else None,
        "refused": len(seen.refused),
        "refused_p50_ms": round(percentile(refused_ms, 50), 3) if refused_ms else None,
        "refused_p99_ms": round(percentile(refused_ms, 99), 3) if refused_ms else None,
        "hung": seen.hung,
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=overload", description=(__doc__ or "").split("\n")[0]
    )
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--seconds", type=float, default=12.0 if quick else 40.0, help="of overload")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with asyncio.Runner(loop_factory=event_loop) as runner:
        rows = runner.run(measure(timedelta(seconds=options.seconds)))
    goals: list[dict[str, Any]] = []
    for found in rows:
        name = found["variant"]
        goals += [
            at_most(f"{name}: goodput lost, percent of the capacity", 100 - found["goodput_percent"], 10),
            at_most(f"{name}: refused p99, ms", found["refused_p99_ms"] or 0.0, 100),
            at_most(f"{name}: hung", found["hung"], 0),
        ]
    for goal in goals:
        print(goal)
    print(f"written to {write('overload', rows, goals)}")
    return 0 if all(goal["holds"] for goal in goals) else 1


async def serve(address: str, control: int) -> None:
    """The worker's process."""
    await RegionWorker(topology(address, control), HERE, application, warm_up=False).run()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2])))
