"""The four ways for one user, measured in turn on servers that run."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.dev.stack import rtt_ms_from
from orchestrator.dev.ways.agents import INSTANT, expected_answer
from orchestrator.dev.ways.callers import WAYS, Answer, Ask, Leg, nearest_region, user
from orchestrator.dev.ways.workers import connected, workers
from orchestrator.dispatch.visibility.registration import register_attributes
from orchestrator.errors import StackError
from orchestrator.geography import Origin
from orchestrator.topology import Region, Topology

COMPARED = ("a", "b", "c", "d")
"""Of the two forms of (b) the faster one."""

CENTRAL = "us-east"
"""Where everything is that is not near the user, in the demo and in the wan bench."""

NAMESPACE = "default"
"""Every development server of Temporal has it. The cells' own namespaces stay as they are: their queues
have workers that do not know the agents compared here."""

WARM_UP = 2
"""Runs of each way that do not count: they open connections and fill caches."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class WayTimes:
    """What one way took."""

    way: str
    """A letter of ``WAYS``."""

    name: str
    about: str
    """Where what is."""

    legs: tuple[Leg, ...]
    """Its round trips on paper."""

    times_ms: tuple[float, ...]
    """Of each run, from the question to the answer."""

    def percentile_ms(self, percent: float) -> float:
        """The smallest time that ``percent`` of the runs do not exceed."""
        ordered = sorted(self.times_ms)
        return ordered[max(0, int(-(-len(ordered) * percent // 100)) - 1)]


@dataclass(frozen=True)
class Comparison:
    """The ways for one user."""

    origin: Origin
    central: str
    near: str
    """The region nearest to the user."""

    floor_ms: float
    """What physics allows here: one round trip to the nearest region; the services take no time. 0 for a
    user inside it."""

    ways: tuple[WayTimes, ...]

    @property
    def gains_nothing(self) -> bool:
        """Whether the user's nearest region is the central one: then there is no way to be nearer."""
        return self.near == self.central


async def compare(
    topology: Topology, origin: Origin, central: str, *, samples: int, progress: Progress
) -> Comparison:
    """Ask in every way, one after the other, in random order in each round.

    The workers of all ways run in this process while it measures, in a namespace of their own on
    the topology's servers; the services take no time, so that what is left is the network and
    the orchestration.

    Args:
        topology: Of a running stack, with the true addresses.
        origin: Where the user is.
        central: The region that has everything which is not near the user.
        samples: Runs of each way that count.
        progress: Gets a line for people now and then.

    Raises:
        StackError: A way gave a wrong answer.
        CellUnavailableError: A cell does not answer.
        SetupError: A cell's namespace does not take the search attributes of runs.
    """
    own = measured_apart(topology)
    near = nearest_region(own, origin)
    started = time.monotonic()
    await asyncio.gather(*(_prepare(own, cell.region) for cell in own.cells))
    async with workers(own, central), user(origin, own, central) as asks:
        compared = {way: asks[way] for way in COMPARED}
        await asyncio.gather(*(_warm_up(way, ask) for way, ask in compared.items()))
        progress(f"comparison workers of {len(compared)} ways ready in {time.monotonic() - started:.1f} s")
        times, last = await _measured(compared, samples, progress)
    return Comparison(
        origin=origin,
        central=central,
        near=near,
        floor_ms=rtt_ms_from(own, origin)(near),
        ways=tuple(
            WayTimes(
                way,
                WAYS[way].name,
                WAYS[way].about.format(near=near, central=central),
                last[way].legs,
                tuple(times[way]),
            )
            for way in COMPARED
        ),
    )


async def _prepare(topology: Topology, region: str) -> None:
    """The namespace knows the search attributes of runs, as that of any cell does."""
    await register_attributes(await connected(topology, region))


def measured_apart(topology: Topology) -> Topology:
    """The same servers and distances, apart from the workers and backends of the stack."""
    return Topology(
        cells=tuple(cell.model_copy(update={"namespace": NAMESPACE}) for cell in topology.cells),
        regions=tuple(
            # made anew: a copy would keep what is cached of the offers
            Region.model_validate(region.model_dump(exclude={"offers", "control"}))
            for region in topology.regions
        ),
        links=topology.links,
        source=topology.source,
    )


async def _warm_up(way: str, ask: Ask) -> None:
    for _ in range(WARM_UP):
        await _checked(way, ask, "warm up")


async def _measured(
    asks: Mapping[str, Ask], samples: int, progress: Progress
) -> tuple[dict[str, list[float]], dict[str, Answer]]:
    times: dict[str, list[float]] = {way: [] for way in asks}
    last: dict[str, Answer] = {}
    started = time.monotonic()
    for number in range(1, samples + 1):
        for way in random.sample(list(asks), len(asks)):
            asked = time.perf_counter()
            last[way] = await _checked(way, asks[way], f"question {number}")
            times[way].append((time.perf_counter() - asked) * 1000)
        progress(f"comparison round {number} of {samples}, {time.monotonic() - started:.1f} s")
    return times, last


async def _checked(way: str, ask: Ask, question: str) -> Answer:
    answer = await ask(INSTANT, question)
    if answer.text != expected_answer(question):
        raise StackError(f"way ({way}) answered {answer.text!r} instead of {expected_answer(question)!r}")
    return answer
