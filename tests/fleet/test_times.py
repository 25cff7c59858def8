import math
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import StepTimes


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def milliseconds(value: float) -> timedelta:
    return timedelta(milliseconds=value)


@given(st.lists(st.integers(min_value=1, max_value=10**7), min_size=1, max_size=300))
def test_quantiles_are_those_of_the_latest_calls(durations_ms: list[int]) -> None:
    times = StepTimes(window=100)
    for duration_ms in durations_ms:
        times.record("answer", "eu", milliseconds(duration_ms))

    seen = times.run_times()["answer", "eu"]

    latest = sorted(durations_ms[-100:])
    assert seen.samples == len(latest)
    # nearest rank: the smallest value that at least this part of the calls does not exceed
    for quantile, value in ((0.50, seen.p50_ms), (0.95, seen.p95_ms)):
        needed = math.ceil(quantile * len(latest))
        assert sum(duration_ms <= value for duration_ms in latest) >= needed
        assert sum(duration_ms < value for duration_ms in latest) < needed


@given(st.lists(st.floats(min_value=-1000, max_value=1000), min_size=1))
def test_any_durations_give_a_valid_run_time(durations_ms: list[float]) -> None:
    times = StepTimes()
    for duration_ms in durations_ms:
        times.record("answer", "eu", milliseconds(duration_ms))
    seen = times.run_times()["answer", "eu"]
    assert 0 < seen.p50_ms <= seen.p95_ms


def test_steps_and_regions_are_apart() -> None:
    times = StepTimes()
    times.record("answer", "eu", milliseconds(10))
    times.record("answer", "us", milliseconds(20))
    times.record("retrieve", "eu", milliseconds(30))
    assert {key: seen.p50_ms for key, seen in times.run_times().items()} == {
        ("answer", "eu"): 10,
        ("answer", "us"): 20,
        ("retrieve", "eu"): 30,
    }


def test_old_calls_stop_counting() -> None:
    clock = Clock()
    times = StepTimes(oldest=timedelta(minutes=10), clock=clock)
    times.record("answer", "eu", milliseconds(1000))
    clock.now_s = 300
    times.record("answer", "eu", milliseconds(10))

    clock.now_s = 601
    assert times.run_times()["answer", "eu"].p95_ms == 10
    clock.now_s = 901
    assert times.run_times() == {}


def test_threads_may_record_together() -> None:
    times = StepTimes(window=10_000)

    def record() -> None:
        for _ in range(1000):
            times.record("answer", "eu", milliseconds(5))
            times.run_times()

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert times.run_times()["answer", "eu"].samples == 4000


@pytest.mark.parametrize(("window", "oldest"), [(0, timedelta(1)), (1, timedelta())])
def test_a_window_holds_something(window: int, oldest: timedelta) -> None:
    with pytest.raises(ValueError, match="at least one call"):
        StepTimes(window=window, oldest=oldest)
