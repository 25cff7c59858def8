"""The harness's own parts: schedules, disks, clocks, results; they end with whoever started them."""

import asyncio
import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.chaos import clock, results
from bench.chaos.__main__ import main
from bench.chaos.conduct import Baseline, Outcome
from bench.chaos.disk import SIZE_MIB, SmallDisk
from bench.chaos.faults import random_schedule
from bench.chaos.figures import Tally
from bench.chaos.results import Results
from bench.chaos.scenarios import SCENARIOS, Options
from bench.chaos.soak import Sample, goals_of, rows_of
from orchestrator.dev.processes import ChildProcess, Supervisor
from orchestrator.errors import StackError
from tests.dev.processes_seen import alive

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def test_a_seed_gives_the_same_schedule_again() -> None:
    assert random_schedule(7, 6) == random_schedule(7, 6)
    assert len({str(random_schedule(seed, 6)) for seed in range(20)}) == 20
    assert len(random_schedule(7, 3).faults) == 3


def test_every_scenario_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    told = capsys.readouterr().out
    assert all(scenario.name in told for scenario in SCENARIOS)
    assert main(["no-such-fault"]) == 2


async def disk_of(folder: Path, supervisor: Supervisor) -> SmallDisk:
    try:
        return await SmallDisk.make(folder / "disk", supervisor)
    except StackError as error:
        pytest.skip(f"no user namespaces here: {error}")


async def written(disk: SmallDisk, supervisor: Supervisor, mib: int) -> ChildProcess:
    script = f"import sys; open(sys.argv[1], 'wb', 0).write(bytes({mib} << 20)) == {mib} << 20 or sys.exit(3)"
    line = disk.inside([sys.executable, "-c", script, str(disk.folder / "file")])
    process = await supervisor.start("writer", line)
    await process.exited()
    return process


async def test_a_small_disk_fills_up_and_empties(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        disk = await disk_of(tmp_path, supervisor)
        assert await (await written(disk, supervisor, 1)).exited() == 0
        await asyncio.to_thread(disk.fill)
        full = await written(disk, supervisor, SIZE_MIB // 2)
        assert await full.exited() != 0
        disk.empty()
        assert await (await written(disk, supervisor, SIZE_MIB // 2)).exited() == 0
        assert list(disk.folder.iterdir()) == []  # nobody else sees it


DIES = """
import asyncio, os, pathlib, sys
from bench.chaos.disk import SmallDisk
from orchestrator.dev.processes import Supervisor

async def main():
    folder = pathlib.Path(sys.argv[1])
    async with Supervisor(folder) as supervisor:
        disk = await SmallDisk.make(folder / "disk", supervisor)
        process = await supervisor.start("sleeper", disk.inside(["sleep", "600"]))
        print("pids", disk._holder.pid, process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_sees_the_disk_dies_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await disk_of(tmp_path / "try", supervisor)
    harness = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DIES, str(tmp_path)), stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
    )
    assert harness.stdout is not None
    try:
        async with asyncio.timeout(60):
            while not (line := await harness.stdout.readline()).startswith(b"pids"):
                assert line, "the harness ended"
    finally:
        harness.send_signal(signal.SIGKILL)
        await harness.wait()
    pids = [int(pid) for pid in line.split()[1:]]
    async with asyncio.timeout(30):
        while any(map(alive, pids)):
            await asyncio.sleep(0.01)


async def test_the_clock_of_a_process_jumps_while_it_runs(tmp_path: Path) -> None:
    module = tmp_path / "telling.py"
    module.write_text(
        "import sys, time\nfor line in sys.stdin: print(time.time(), time.monotonic(), flush=True)"
    )
    offset = tmp_path / "offset"
    line = clock.command([sys.executable, "-m", "telling"])
    process = await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **clock.environment(offset), "PYTHONPATH": f"{CHECKOUT}:{tmp_path}"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def told() -> tuple[float, float]:
        stdin.write(b"\n")
        wall, monotonic = (await stdout.readline()).split()
        return float(wall), float(monotonic)

    wall, monotonic = await told()
    clock.set_offset(offset, timedelta(hours=2))
    async with asyncio.timeout(30):
        while (jumped := await told())[0] < wall + 7000:
            await asyncio.sleep(0.05)
    assert jumped[1] - monotonic < 60, "the monotonic clock does not jump"
    stdin.close()
    await process.wait()


def outcome(name: str, **changed: Any) -> Outcome:
    counted = Tally(500, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    row = {"scenario": name, "runs": 500, "hit": 9, **dict.fromkeys(results.ZERO, 0), **changed}
    return Outcome(
        {**dict.fromkeys(results.SHOWN), **row}, counted, changed.get("p99"), 9, 2.0, 1.0, {}, False
    )


def by_name(name: str) -> Any:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def test_goals_tell_what_holds_and_what_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "OUT", tmp_path)
    monkeypatch.setattr(results, "OUT", tmp_path)
    healthy = Baseline(1.0, 1.1)
    first = Results(Options(seed=3))
    first.add(by_name("region-killed"), outcome("region-killed", lost=2), healthy)
    first.add(by_name("home-killed"), outcome("home-killed", p99=4.0), healthy)
    assert not first.all_hold
    first.write()
    second = Results(Options(seed=3))
    second.add(by_name("region-slow"), outcome("region-slow"), healthy)
    assert second.all_hold
    found = json.loads(second.write().read_text())
    assert [row["scenario"] for row in found["results"] if "scenario" in row] == [
        "region-killed",
        "home-killed",
        "region-slow",
    ]
    goals = {goal["name"]: (goal["value"], goal["holds"]) for goal in found["goals"]}
    assert goals["runs lost"] == (2, False)
    assert goals["wrong answers"] == (0, True)
    assert goals["region-killed: recovery p99 (s)"] == (None, False)
    assert goals["home-killed: recovery p99 (s)"] == (4.0, True)
    assert goals["region-slow: extra calls (%)"] == (1.0, True)


def test_what_hits_nothing_proves_nothing() -> None:
    told = Results(Options())
    told.add(by_name("model-cuts"), outcome("model-cuts", hit=0), Baseline(1.0, 1.1))
    assert not told.all_hold


def test_a_soak_compares_late_with_early() -> None:
    samples = [
        Sample(name, at / 20, mib + grows * at, 20 + leaks * at, 10)
        for at in range(21)
        for name, mib, grows, leaks in (
            ("worker a 0", 100, 0, 0),
            ("client", 100, 3, 1),
            ("cell a", 100, 9, 0),
        )
    ]
    rows = rows_of(samples)
    assert [row["process"] for row in rows] == ["worker a 0", "client", "cell a"]
    totals = dict.fromkeys(("processes_more", "open_at_the_end", "lost", "duplicated", "wrong", "outside"), 0)
    goals = {goal["name"]: goal for goal in goals_of(rows, totals)}
    memory = goals["soak: memory of the worst process beyond the tolerance (MiB)"]
    assert (memory["holds"], memory["value"] > 0) == (False, True)
    assert not goals["soak: more descriptors in the worst process"]["holds"]
    assert goals["soak: runs open at the end"]["holds"]
    flat = {goal["name"]: goal["holds"] for goal in goals_of(rows[:1], totals)}
    assert all(flat.values())
