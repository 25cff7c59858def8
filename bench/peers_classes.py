"""What the bench of the peers compares with what: how durable each variant is, and who runs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from bench.report import percentile

BOUND = 1.0
"""Edgeward's answer is to be there no later than that of the fastest peer that is as durable."""


Runs = Literal["dispatched", "in the caller's process"]


class Survives(IntEnum):
    """What a run survives once its answer is at the caller; each includes those before it."""

    NOTHING = 0
    """Its state is on its way to whoever keeps it: a crash in these milliseconds may lose it."""

    WORKER_CRASH = 1
    """Its state is in a server's memory."""

    ANY_CRASH = 2
    """Its state is in files, which the system writes to the disk when it likes."""

    POWER_CUT = 3
    """Its state was synced to the disk."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A system as it is measured."""

    name: str
    runs: Runs
    """Dispatched: a server takes the run from whoever asks and hands it to a worker. The other way
    the process that asks does the work, too: fewer hops, and users must reach that very process."""

    survives: Survives
    durable: str
    """How the results of the steps are kept at the moment the caller has the answer."""

    syncs: int
    """About how often a run has the disk synced: calls of fsync and fdatasync, counted with strace."""

    @property
    def ours(self) -> bool:
        """Whether it is Edgeward."""
        return self.name.startswith("edgeward")


DISPATCHED: Runs = "dispatched"
IN_PROCESS: Runs = "in the caller's process"

MEMORY = "server's memory; the five with the workflow task"
WITH_TASK = "SQLite WAL, synced; the five with the workflow task"
EACH_IN_SQLITE = "SQLite WAL, synced; each step before the next"

EDGEWARD_MEMORY = Variant("edgeward, memory", DISPATCHED, Survives.WORKER_CRASH, MEMORY, 0)
TEMPORALIO_MEMORY = Variant("temporalio, memory", DISPATCHED, Survives.WORKER_CRASH, MEMORY, 0)
EDGEWARD_DISK = Variant("edgeward, disk", DISPATCHED, Survives.POWER_CUT, WITH_TASK, 8)
TEMPORALIO_DISK = Variant("temporalio, disk", DISPATCHED, Survives.POWER_CUT, WITH_TASK, 8)
EDGEWARD_BESIDE = Variant("edgeward, beside", IN_PROCESS, Survives.POWER_CUT, WITH_TASK, 7)
TEMPORALIO_BESIDE = Variant("temporalio, beside", IN_PROCESS, Survives.POWER_CUT, WITH_TASK, 7)
"""Beside: the caller is in the worker's process; the server on disk is not."""

EDGEWARD_EARLY = Variant(
    "edgeward, early", IN_PROCESS, Survives.NOTHING, "nothing yet; the five are on their way to the server", 7
)
"""Of no class: no peer here answers before it has kept anything."""

RESTATE_UNSYNCED = Variant(
    "restate, unsynced", DISPATCHED, Survives.ANY_CRASH, "RocksDB log; each step before the next", 0
)
RESTATE = Variant(
    "restate", DISPATCHED, Survives.POWER_CUT, "RocksDB log, synced; each step before the next", 13
)
"""As it is shipped: it syncs unless told otherwise."""

DBOS_SQLITE = Variant("dbos, sqlite", IN_PROCESS, Survives.POWER_CUT, EACH_IN_SQLITE, 7)
DBOS_POSTGRESQL = Variant(
    "dbos, postgresql", IN_PROCESS, Survives.POWER_CUT, "PostgreSQL, synced; each step before the next", 7
)
LANGGRAPH_NODES = Variant("langgraph, nodes", IN_PROCESS, Survives.POWER_CUT, EACH_IN_SQLITE, 13)
LANGGRAPH_TASKS = Variant(
    "langgraph, tasks", IN_PROCESS, Survives.POWER_CUT, "SQLite WAL, synced; all before the answer", 8
)


def as_durable(ours: Variant, runs: Runs, measured: Sequence[Variant]) -> list[Variant]:
    """The peers that run in this way and survive at least what ours does."""
    return [
        variant
        for variant in measured
        if not variant.ours and variant.runs == runs and variant.survives >= ours.survives
    ]


def goals(times_ms: Mapping[Variant, Sequence[float]]) -> list[dict[str, Any]]:
    """One goal for each class that has a peer: p50 of Edgeward's answer over the fastest peer's."""
    classes = (
        ("dispatched, whatever survives a worker's crash", EDGEWARD_MEMORY, DISPATCHED),
        ("dispatched, survives a power cut", EDGEWARD_DISK, DISPATCHED),
        ("in the caller's process, survives a power cut", EDGEWARD_BESIDE, IN_PROCESS),
    )
    found: list[dict[str, Any]] = []
    for name, ours, runs in classes:
        peers = as_durable(ours, runs, list(times_ms))
        if not peers or ours not in times_ms:
            continue
        p50_ms = {variant: percentile(times_ms[variant], 50) for variant in (ours, *peers)}
        fastest = min(peers, key=p50_ms.__getitem__)
        ratio = p50_ms[ours] / p50_ms[fastest]
        found.append(
            {
                "name": f"{name}: {ours.name} over {fastest.name} "
                f"({p50_ms[ours]:.1f} and {p50_ms[fastest]:.1f} ms)",
                "value": round(ratio, 3),
                "bound": BOUND,
                "holds": ratio <= BOUND,
            }
        )
    return found
