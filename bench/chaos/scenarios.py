"""The scenarios, as data: what breaks, for how long, and what is measured of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from bench.chaos.doubles import Mood
from bench.chaos.faults import (
    ClockJump,
    Fault,
    FullDisk,
    KillCell,
    KillWorkers,
    Nothing,
    Partition,
    RollEverything,
    Services,
    random_schedule,
)
from bench.chaos.figures import Recovery
from bench.chaos.fleet import PLAIN, Shape
from bench.chaos.places import CENTRAL, FAR, HOME
from orchestrator.dev.wan import Fault as NetworkFault

HEALTHY = "healthy"
"""The scenario that the others are compared with; it always comes first."""

SLOWER = 20.0
"""How much slower a slow region is."""

RANDOM_FAULTS = 6


@dataclass(frozen=True)
class Options:
    """What a call of the harness may change."""

    runs: int = 500
    seed: int = 1
    scale: float = 1.0
    """Of the times that faults last: the short version uses less."""

    deadline: timedelta = timedelta(seconds=60)
    """After it, a run without an answer is lost."""

    rate_per_s: float | None = None
    """Runs that start in a second; None: half of the capacity that is measured at the start."""


@dataclass(frozen=True)
class Scenario:
    """One way to break the fleet while it works."""

    name: str
    about: str
    fault: Callable[[Options], Fault]
    lasts: timedelta | None = timedelta(seconds=8)
    """Until it is healed; None: not before all runs have ended, or are lost."""

    recovery: Recovery = Recovery.EXTRA
    bound_s: float | None = None
    """Goal for the recovery's p99."""

    alive: bool = False
    """Whether the region that is hit goes on working."""

    shape: Shape = PLAIN
    rush: bool = False
    """Whether many runs start at once right before the fault: those of a steady rate are too short for more
    than a few to be under way."""

    hedged: bool = False
    """Whether the p99 of the runs, and what hedging costs, have goals."""


def _nothing(options: Options) -> Fault:
    return Nothing()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(HEALTHY, "nothing breaks: what the others are compared with", _nothing, lasts=timedelta(0)),
    Scenario(
        "worker-killed",
        "SIGKILL of one of the two worker processes of the far region, in mid-step",
        lambda options: KillWorkers(FAR, only=0),
        lasts=None,
        recovery=Recovery.STEP,
        alive=True,
    ),
    Scenario(
        "region-killed",
        "SIGKILL of all workers of the far region; they do not come back",
        lambda options: KillWorkers(FAR),
        lasts=None,
        recovery=Recovery.STEP,
        bound_s=3.0,
    ),
    Scenario(
        "home-killed",
        "SIGKILL of the workers of the home of most runs; they do not come back",
        lambda options: KillWorkers(HOME),
        lasts=None,
        recovery=Recovery.RUN,
        bound_s=5.0,
    ),
    Scenario(
        "cell-killed",
        "SIGKILL of a cell's server, and a start from its file",
        lambda options: KillCell(CENTRAL),
        recovery=Recovery.RUN,
        rush=True,
    ),
    Scenario(
        "cell-gone",
        "SIGKILL of a cell's server; it does not come back",
        lambda options: KillCell(CENTRAL),
        lasts=None,
        recovery=Recovery.RUN,
        rush=True,
    ),
    *(
        Scenario(
            f"partition-{fault}",
            f"the network between the home and the far region: {what}",
            lambda options, fault=fault: Partition(FAR, HOME, fault),
            recovery=Recovery.STEP,
        )
        for fault, what in (
            (NetworkFault.DROP, "connections are accepted and bytes swallowed"),
            (NetworkFault.STALL, "bytes are held back until it heals"),
            (NetworkFault.RESET, "every connection is reset"),
        )
    ),
    Scenario(
        "region-slow",
        f"models and tools of the far region are {SLOWER:g} times slower, and alive",
        lambda options: Services(FAR, times_slower=SLOWER),
        lasts=timedelta(seconds=20),
        hedged=True,
    ),
    Scenario(
        "model-hangs",
        "the home's model accepts requests and does not answer",
        lambda options: Services(HOME, Mood.HANGS),
        lasts=timedelta(seconds=15),
    ),
    Scenario(
        "model-fails",
        "the home's model answers HTTP 500 for 30 s",
        lambda options: Services(HOME, Mood.FAILS),
        lasts=timedelta(seconds=30),
    ),
    Scenario(
        "model-cuts",
        "the home's model cuts its streams after the first piece",
        lambda options: Services(HOME, Mood.CUTS),
        lasts=timedelta(seconds=15),
    ),
    Scenario(
        "clock-jump",
        "the wall clock of a worker process of the far region is two hours ahead",
        lambda options: ClockJump(timedelta(hours=2)),
    ),
    Scenario(
        "clock-back",
        "the wall clock of a worker process of the far region is two hours behind",
        lambda options: ClockJump(timedelta(hours=-2)),
    ),
    Scenario(
        "disk-full",
        "a cell's database gets no more space, until some is freed",
        lambda options: FullDisk(CENTRAL),
        recovery=Recovery.RUN,
        shape=Shape(small_disk=CENTRAL),
        rush=True,
    ),
    Scenario(
        "rolling-restart",
        "SIGTERM and a new start of every worker and every server, one after the other",
        lambda options: RollEverything(),
        lasts=timedelta(0),
    ),
    Scenario(
        "random",
        "a random schedule of all of these; the same seed gives the same schedule",
        lambda options: random_schedule(options.seed, max(1, round(RANDOM_FAULTS * options.scale))),
        lasts=timedelta(0),
    ),
)
"""In the order in which they run. ``overload`` is a scenario of its own kind and comes last."""

OVERLOAD = "overload"
OVERLOAD_ABOUT = "five times as many runs start as models can answer"
