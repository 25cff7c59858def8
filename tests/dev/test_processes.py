import asyncio
import os
import signal
import socket
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.dev.processes import (
    ChildProcess,
    Supervisor,
    check_space,
    free_ports,
    port_answers,
    port_is_free,
)
from orchestrator.errors import StackError
from tests.dev.processes_seen import alive, children_of
from tests.signals import interruptible

SOON = timedelta(seconds=20)

SERVE = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("serving", flush=True)
while True:
    server.accept()
"""

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


async def python(tmp_path: Path, code: str, *arguments: str) -> ChildProcess:
    return await ChildProcess.start(
        "a server", [sys.executable, "-c", code, *arguments], log_file=tmp_path / "log" / "server.log"
    )


async def ended(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):
            await asyncio.sleep(0.02)


async def logged(process: ChildProcess) -> str:
    async with asyncio.timeout(20):
        while not (tail := process.log_tail()):
            await asyncio.sleep(0.02)
    return tail


async def test_a_server_becomes_ready_and_ends(tmp_path: Path) -> None:
    [port] = free_ports(1)
    process = await python(tmp_path, SERVE, str(port))
    await process.until_ready(lambda: port_answers(port), within=SOON)
    assert process.running
    assert process.log_tail() == "serving"
    await process.stop()
    assert not process.running
    assert await process.exited() == -signal.SIGTERM
    assert port_is_free(port)


async def test_what_does_not_listen_to_a_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    process = await python(tmp_path, STUBBORN)
    child = int(await logged(process))
    await process.stop(grace=timedelta(milliseconds=200))
    assert await process.exited() == -signal.SIGKILL
    await ended(child)


async def test_an_early_end_shows_the_log(tmp_path: Path) -> None:
    process = await python(tmp_path, "raise SystemExit('no such model')")
    with pytest.raises(StackError, match=r"(?s)a server: ended with status 1.*server\.log.*no such model"):
        await process.until_ready(lambda: port_answers(1), within=SOON)


async def test_only_the_log_of_this_start_is_shown(tmp_path: Path) -> None:
    first = await python(tmp_path, "print('first')")
    await first.exited()
    second = await python(tmp_path, "print('second')")
    await second.exited()
    assert second.log_tail() == "second"
    assert (tmp_path / "log" / "server.log").read_text() == "first\nsecond\n"


async def test_a_slow_start_is_an_error(tmp_path: Path) -> None:
    process = await python(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(StackError, match=r"not ready within 0\.3 s.*nothing"):
        await process.until_ready(lambda: port_answers(1), within=timedelta(milliseconds=300))
    await process.stop()


async def test_a_port_in_use_is_said_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not port_is_free(port)
        process = await python(tmp_path, SERVE, str(port))
        with pytest.raises(StackError, match="a server: its port is in use"):
            await process.until_ready(_never, within=SOON)


async def test_a_missing_program_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"there is no program no-such-program; install it"):
        await ChildProcess.start("x", ["no-such-program"], log_file=tmp_path / "x.log")


async def test_a_folder_that_cannot_be_used_is_said_plainly(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StackError, match=r"cannot use the folder .*file.*choose another"):
        check_space(file / "below")
    with pytest.raises(StackError, match=r"cannot start: .*file"):
        await ChildProcess.start("x", [sys.executable], log_file=file / "below" / "x.log")


def test_too_little_space_is_said_plainly(tmp_path: Path) -> None:
    check_space(tmp_path / "made", least_bytes=1)
    with pytest.raises(StackError, match=r"no disk space: .* MiB left and the stack needs \d+ MiB"):
        check_space(tmp_path, least_bytes=2**60)


async def test_a_supervisor_ends_what_it_started(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with Supervisor(tmp_path) as supervisor:
            for name in ("one", "two"):
                await supervisor.start(name, [sys.executable, "-c", "import time; time.sleep(600)"])
            assert all(process.running for process in supervisor.processes)
            raise KeyError
    assert [process.running for process in supervisor.processes] == [False, False]


async def test_a_supervisor_says_who_ended(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start("stays", [sys.executable, "-c", "import time; time.sleep(600)"])
        goes = await supervisor.start("goes", [sys.executable, "-c", "raise SystemExit(3)"])
        assert await asyncio.wait_for(supervisor.first_exit(), 20) is goes


@pytest.mark.parametrize("delay", [0, 0.001, 0.005, 0.02, 0.05])
async def test_a_cancelled_start_leaves_nothing(tmp_path: Path, delay: float) -> None:
    before = children_of(os.getpid())

    async def run() -> None:
        async with Supervisor(tmp_path) as supervisor:
            for number in range(5):
                await supervisor.start(str(number), [sys.executable, "-c", "import time; time.sleep(600)"])
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await asyncio.sleep(delay)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for pid in children_of(os.getpid()) - before:
        await ended(pid)


PARENT = """
import asyncio, sys
from pathlib import Path
from orchestrator.dev.processes import Supervisor

async def main():
    async with Supervisor(Path(sys.argv[1])) as supervisor:
        process = await supervisor.start("child", [sys.executable, "-c", "import time; time.sleep(600)"])
        print('child', process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=interruptible,
    )
    assert parent.stdout is not None
    try:
        while not (line := await parent.stdout.readline()).startswith(b"child "):
            assert line, "the parent ended"
        child = int(line.split()[1])
        assert alive(child)
        parent.send_signal(number)
        await parent.wait()
        await ended(child)
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()


async def _never() -> bool:
    return False
