"""Five steps that do nothing, on Edgeward, Temporal, Restate, DBOS and LangGraph, by how durable each is.

Each step adds one to a number; the time is from asking to having the answer, taken by the caller. A
run is *dispatched* where a server takes it from whoever asks and hands it to a worker, and is *in the
caller's process* where the process that asks does the work, too. Peers are compared with by what a
run survives once its answer is there, at least as much as Edgeward's:

- *worker crash*: the state is in a server's memory;
- *any crash*: it is in files that were not synced to the disk;
- *power cut*: it was synced, about as often as *syncs* says.

Temporal's local activities, Edgeward's inline steps and LangGraph's tasks are kept together before
the answer, the others each before the next. Everything is on one machine. Temporal has the settings of
Edgeward's embedded stack, Restate one partition instead of 24, DBOS's SQLite a write-ahead log: all of
them are quicker that way. The versions are pinned in ``bench/peers_environment.py``.
"""

import argparse
import asyncio
import logging
import os
import random
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from bench.peers_classes import (
    DBOS_POSTGRESQL,
    DBOS_SQLITE,
    EDGEWARD_BESIDE,
    EDGEWARD_DISK,
    EDGEWARD_EARLY,
    EDGEWARD_MEMORY,
    LANGGRAPH_NODES,
    LANGGRAPH_TASKS,
    RESTATE,
    RESTATE_UNSYNCED,
    TEMPORALIO_BESIDE,
    TEMPORALIO_DISK,
    TEMPORALIO_MEMORY,
    Variant,
    goals,
)
from bench.peers_environment import PEERS, PeerUnavailableError, install
from bench.peers_servers import (
    Runner,
    restate_runner,
    start_postgresql,
    start_restate,
    start_temporal,
    temporal_runner,
)
from bench.report import OUT, summary, write
from orchestrator.dev.processes import Supervisor
from orchestrator.errors import StackError

WARMING = 5
"""Runs of each variant before those that count: they open connections and fill caches."""

Start = Callable[[Supervisor, Path], Coroutine[Any, Any, dict[Variant, Runner]]]


def temporal(variants: Mapping[tuple[str, str], Variant], *, on_disk: bool) -> Start:
    """Edgeward and temporalio share a server, so that it is the same in whatever state it is."""

    async def start(supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
        server = await start_temporal(supervisor, folder, on_disk=on_disk)
        return {
            variant: await temporal_runner(supervisor, server, system, caller)
            for (system, caller), variant in variants.items()
        }

    return start


async def restate(supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
    return {
        variant: await restate_runner(
            supervisor, await start_restate(supervisor, folder, synced=variant is RESTATE)
        )
        for variant in (RESTATE, RESTATE_UNSYNCED)
    }


async def dbos_sqlite(supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
    database = f"sqlite:///{folder / 'dbos.db'}"
    return {DBOS_SQLITE: await Runner.start(supervisor, "dbos sqlite", "on_dbos", "--database", database)}


async def dbos_postgresql(supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
    database = f"{await start_postgresql(supervisor, folder)}/five"
    runner = await Runner.start(supervisor, "dbos postgresql", "on_dbos", "--database", database)
    return {DBOS_POSTGRESQL: runner}


async def langgraph(supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
    return {
        variant: await Runner.start(
            supervisor,
            f"langgraph {steps}",
            "on_langgraph",
            *("--database", str(folder / f"langgraph-{steps}.db"), "--steps", steps),
        )
        for steps, variant in {"nodes": LANGGRAPH_NODES, "tasks": LANGGRAPH_TASKS}.items()
    }


OURS = (
    temporal(
        {("edgeward", "apart"): EDGEWARD_MEMORY, ("temporalio", "apart"): TEMPORALIO_MEMORY}, on_disk=False
    ),
    temporal(
        {
            ("edgeward", "apart"): EDGEWARD_DISK,
            ("temporalio", "apart"): TEMPORALIO_DISK,
            ("edgeward", "beside"): EDGEWARD_BESIDE,
            ("temporalio", "beside"): TEMPORALIO_BESIDE,
            ("edgeward", "early"): EDGEWARD_EARLY,
        },
        on_disk=True,
    ),
)
OTHERS = {"restate": (restate,), "dbos": (dbos_sqlite, dbos_postgresql), "langgraph": (langgraph,)}


def installed() -> list[str]:
    """The peers that can be measured; says of the others why not."""
    names: list[str] = []
    for peer in PEERS:
        try:
            install(peer)
        except PeerUnavailableError as error:
            print(f"{peer.name} is not measured: {error}", file=sys.stderr)
        else:
            names.append(peer.name)
    return names


async def measure(peers: Sequence[str], samples: int) -> dict[Variant, list[float]]:
    OUT.mkdir(exist_ok=True)
    # beside the results and not in the system's folder for such things: that may be in memory
    with tempfile.TemporaryDirectory(dir=OUT, prefix="peers-state-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL's files are another user's where root runs this
        async with Supervisor(folder) as supervisor:
            return await interleaved(await started(peers, supervisor, folder), samples)


async def started(peers: Sequence[str], supervisor: Supervisor, folder: Path) -> dict[Variant, Runner]:
    """The runners of Edgeward and temporalio, and of the peers that can be started."""

    async def start_peer(peer: str, start: Start) -> dict[Variant, Runner]:
        try:
            return await start(supervisor, folder)
        except (PeerUnavailableError, StackError) as error:
            print(f"{peer} is not measured: {error}", file=sys.stderr)
            return {}

    async with asyncio.TaskGroup() as starting:
        tasks = [starting.create_task(start(supervisor, folder)) for start in OURS]
        for peer in peers:
            tasks += [starting.create_task(start_peer(peer, start)) for start in OTHERS[peer]]
    return {variant: runner for task in tasks for variant, runner in task.result().items()}


async def interleaved(runners: Mapping[Variant, Runner], samples: int) -> dict[Variant, list[float]]:
    """One sample of each in turn, in an order that changes: whatever one leaves behind, such as
    writes to the disk, meets all the others."""
    times_ms: dict[Variant, list[float]] = {variant: [] for variant in runners}
    order, shuffle = list(runners), random.Random(0)
    for number in range(-WARMING, samples):
        shuffle.shuffle(order)
        for variant in order:
            took_ms = await runners[variant].ask(number)
            if number >= 0:
                times_ms[variant].append(took_ms)
    return times_ms


def show(results: Sequence[Mapping[str, Any]]) -> None:
    times = f"{'p50':>7} {'p95':>7} {'p99':>7} ms  {'n':>4}"
    print(f"{'':18} {times}  {'runs':23}  {'survives':12}  syncs  durable how")
    for row in results:
        times = " ".join(f"{row[key]:7.2f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        how = f"{row['runs']:23}  {row['survives']:12}  {row['syncs']:5}  {row['durable']}"
        print(f"{row['variant']:18} {times}     {row['n']:4}  {how}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=peers", description=(__doc__ or "").partition("\n")[0]
    )
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--samples", type=int, default=15 if quick else 150, help="runs of each variant")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    before = os.getloadavg()[0]
    times_ms = asyncio.run(measure(installed(), options.samples))
    results = [
        {
            "variant": variant.name,
            "runs": variant.runs,
            "survives": variant.survives.name.lower().replace("_", " "),
            "durable": variant.durable,
            "syncs": variant.syncs,
            **summary(taken),
        }
        for variant, taken in times_ms.items()
    ]
    show(results)
    reached = goals(times_ms)
    for goal in reached:
        print("  ".join(f"{key} {value}" for key, value in goal.items()))
    print(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores")
    print(f"written to {write('peers', results, reached)}")
    return 0 if all(goal["holds"] for goal in reached) else 1
