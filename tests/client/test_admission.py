"""Who is refused, and when: by the queues of the plan, and by how fast the runs of a client end."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents import DEFAULT_LONGEST_WAIT
from orchestrator.client.admission import Admission, refuse_long_queues
from orchestrator.client.open_runs import ALWAYS_OPEN, OpenRuns, Ticket
from orchestrator.errors import AdmissionRefusedError
from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import (
    AgentProfile,
    Plan,
    QueueReading,
    RegionReading,
    RunTime,
    Snapshot,
    StepProfile,
    plan,
)
from orchestrator.topology import Cell, Region, Topology

WAIT_S = DEFAULT_LONGEST_WAIT.total_seconds()


@dataclass
class Simulated:
    """A home that works on so many runs at a time, and callers who do not try again."""

    slots: int
    took_s: Callable[[], float]
    now_s: float = 0.0
    refused: int = 0
    took: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """When each run that has ended began, and how long it took."""

    def __post_init__(self) -> None:
        self.runs = OpenRuns(lambda: self.now_s)
        self._free = [0.0] * self.slots
        self._ends: list[tuple[float, int, float, Ticket]] = []
        self._number = itertools.count()

    def arrive(self, at_s: float) -> None:
        self._until(at_s)
        if self.runs.refusal(DEFAULT_LONGEST_WAIT) is not None:
            self.refused += 1
            return
        ticket = self.runs.enter()
        self.runs.wait(ticket)
        ends_s = max(at_s, heapq.heappop(self._free)) + self.took_s()
        heapq.heappush(self._free, ends_s)
        heapq.heappush(self._ends, (ends_s, next(self._number), at_s, ticket))

    def _until(self, at_s: float) -> None:
        while self._ends and self._ends[0][0] <= at_s:
            self.now_s, _, began_s, ticket = heapq.heappop(self._ends)
            self.took.append((began_s, self.now_s - began_s))
            self.runs.leave(ticket, ended=True)
        self.now_s = at_s

    def offer(self, per_s: float, seconds: float) -> None:
        began_s = self.now_s
        for number in range(int(per_s * seconds)):
            self.arrive(began_s + number / per_s)


def test_runs_that_hang_do_not_keep_out_those_that_would_not() -> None:
    home = Simulated(slots=1000, took_s=lambda: 0.5)
    home.offer(10, 10)
    hanging = Simulated(slots=1000, took_s=lambda: 600.0, now_s=home.now_s)
    hanging.runs = home.runs
    began_s = home.now_s
    for number in range(200):  # from some moment on every run hangs
        at_s = began_s + number / 10
        home._until(at_s)
        hanging.arrive(at_s)
    assert hanging.refused > 0
    before = home.refused
    home.offer(10, 20)  # whoever comes now would not hang
    refused_at_first = home.refused - before
    assert refused_at_first > 0
    home.offer(10, 20)
    assert home.refused - before == refused_at_first


def times(seed: int, mean_s: float) -> Callable[[], float]:
    """Run times between a half and one and a half of a mean."""
    chance = random.Random(seed)
    return lambda: mean_s * chance.uniform(0.5, 1.5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("slots", "mean_s"), [(4, 0.2), (2, 0.5), (16, 1.0), (100, 0.3), (8, 5.0)])
@pytest.mark.parametrize("at_once", [False, True], ids=["after-a-quiet-time", "at-once"])
def test_at_five_times_the_capacity_goodput_stays_and_nobody_waits_long(
    slots: int, mean_s: float, at_once: bool, seed: int
) -> None:
    home = Simulated(slots, times(seed, mean_s))
    capacity = slots / mean_s
    if not at_once:
        home.offer(capacity / 2, 20)
        assert home.refused == 0
    began_s, before, seconds = home.now_s, len(home.took), 40 * max(1.0, mean_s)
    home.offer(5 * capacity, seconds)
    assert len(home.took) - before >= 0.9 * capacity * seconds
    # those that came before anybody could tell wait longer
    told_s = began_s + 2 + 6 * mean_s
    assert max(took_s for at_s, took_s in home.took if at_s > told_s) <= 2 * mean_s + 2 * WAIT_S
    assert home.refused > 0


@pytest.mark.parametrize("load", [0.1, 0.5, 0.8])
def test_below_the_capacity_nobody_is_refused(load: float) -> None:
    home = Simulated(8, times(1, 0.4))
    home.offer(load * 8 / 0.4, 120)
    assert home.refused == 0


@pytest.mark.parametrize("mean_s", [0.1, 0.4, 3.0, 12.0])
def test_a_burst_on_an_idle_home_is_not_refused(mean_s: float) -> None:
    home = Simulated(1000, times(1, mean_s))
    home.offer(1 / mean_s, 20 * mean_s)
    home.offer(800 / mean_s, 5 * mean_s)
    assert home.refused == 0


def test_runs_that_wait_for_people_are_not_taken_for_a_queue() -> None:
    home = Simulated(10_000, lambda: 3600.0)
    home.offer(1, 3 * 3600)
    assert home.refused == 0


def test_a_home_that_became_slower_is_learned() -> None:
    home = Simulated(100, times(1, 0.5))
    home.offer(20, 60)
    home.took_s = times(2, 10.0)  # and has as many slots: 10 a second
    home.offer(5, 600)
    before = home.refused
    home.offer(5, 60)
    assert home.refused == before


def test_where_nothing_ends_one_now_and_then_may_try() -> None:
    home = Simulated(4, times(1, 0.2))
    home.offer(10, 20)
    home.took_s = lambda: 1e9
    home.offer(100, 60)
    assert home.refused > 5000
    assert home.runs.open < 700


def test_who_goes_away_is_counted_no_more() -> None:
    home = Simulated(1, lambda: 0.1)
    home.offer(1, 20)
    tickets = [home.runs.enter() for _ in range(50)]
    for ticket in tickets:
        home.runs.leave(ticket, ended=False)
    assert home.runs.open <= 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "wait", "end", "leave", "ask"]), st.floats(0, 5)), max_size=200
    )
)
def test_any_order_of_events_is_counted(events: list[tuple[str, float]]) -> None:
    now_s = 0.0
    runs = OpenRuns(lambda: now_s)
    tickets: list[Ticket] = []
    for event, later_s in events:
        now_s += later_s
        if event == "enter":
            tickets.append(runs.enter())
        elif event == "ask":
            full = runs.refusal(DEFAULT_LONGEST_WAIT)
            assert full is None or (full.open >= ALWAYS_OPEN and full.retry_after > timedelta())
        elif tickets and event == "wait":
            runs.wait(tickets[-1])
        elif tickets:
            runs.leave(tickets.pop(0), ended=event == "end")
        assert 0 <= runs.open <= len(tickets)


def planned(backlog: int, slots: int) -> tuple[Plan, Snapshot]:
    region = Region(name="leipzig", coordinates=Coordinates(51.3, 12.4), country="DE", cell="europe")
    topology = Topology(
        cells=(Cell(name="europe", region="leipzig", address="127.0.0.1:1"),), regions=(region,)
    )
    reading = RegionReading("up", {"code": QueueReading(backlog=backlog, slots=slots, busy=slots)})
    snapshot = Snapshot(regions={"leipzig": reading})
    step = StepProfile("solve", "code", prior=RunTime(400, 800), dispatch="queue")
    origin = Origin(label="here", coordinates=region.coordinates)
    return plan(AgentProfile("Solver", (step,)), origin, topology, snapshot), snapshot


def test_a_long_queue_refuses_a_run_and_says_when_to_try_again() -> None:
    made, snapshot = planned(backlog=240, slots=16)
    words = "region leipzig is full: 240 steps like solve wait for 16 slots; try again in 2 s"
    with pytest.raises(AdmissionRefusedError, match=words) as full:
        refuse_long_queues(made, snapshot, timedelta(seconds=5))
    assert full.value.region == "leipzig"
    assert timedelta(seconds=1) <= full.value.retry_after <= timedelta(seconds=2)
    refuse_long_queues(made, snapshot, timedelta(seconds=10))


def test_runs_that_the_snapshot_does_not_know_of_yet_count_too() -> None:
    made, snapshot = planned(backlog=0, slots=16)
    refuse_long_queues(made, snapshot, timedelta(seconds=5), open_runs=100)
    with pytest.raises(AdmissionRefusedError):
        refuse_long_queues(made, snapshot, timedelta(seconds=5), open_runs=1000)


def test_admission_can_be_switched_off() -> None:
    made, snapshot = planned(backlog=10_000, slots=1)
    with pytest.raises(AdmissionRefusedError):
        Admission(lambda: snapshot).admit(made, DEFAULT_LONGEST_WAIT)
    Admission(lambda: snapshot, enabled=False).admit(made, DEFAULT_LONGEST_WAIT)
