"""``edgeward top`` as a user has it, on a terminal or a pipe: one region is up and one is down."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.signals import interruptible

CHECKOUT = Path(__file__).resolve().parent.parent.parent
TOP = (sys.executable, "-m", "orchestrator.cli", "top")


async def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [*TOP, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


async def test_once_shows_what_is_up_and_why_the_rest_is_down(file: Path) -> None:
    told = await top("--once", "--topology", str(file))
    assert (told.returncode, told.stderr) == (0, "")
    assert "\x1b" not in told.stdout
    here = next(line for line in told.stdout.splitlines() if line.startswith("here"))
    assert here.split()[1] == "up"
    away = next(line for line in told.stdout.splitlines() if line.startswith("away"))
    assert away.split()[1] == "down"
    assert "connection refused" in away
    assert "2 cells" in told.stdout


async def test_for_programs_it_is_one_object_and_filtered_and_sorted(file: Path) -> None:
    told = await top("--once", "--output", "json", "--sort", "rtt", "--topology", str(file))
    [line] = told.stdout.splitlines()
    found = json.loads(line)
    assert [region["region"] for region in found["regions"]] == ["here", "away"]
    here, away = found["regions"]
    assert (here["state"], here["reason"], here["busy"]) == ("up", None, 0)
    assert here["slots"] > 0
    assert here["rtt_ms"] > 0
    assert (away["state"], away["slots"], away["rtt_ms"]) == ("down", None, None)
    assert {cell["cell"]: cell["state"] for cell in found["cells"]} == {"gone": "down", "here": "up"}
    one = await top("--once", "-o", "json", "--region", "away", "--topology", str(file))
    assert [region["region"] for region in json.loads(one.stdout)["regions"]] == ["away"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--region", "nowhere"), "name one of away, here"),
        (("--every", "soon"), "write one like 500ms, 2s"),
        (("--every", "1ms"), "200ms is the least"),
    ],
)
async def test_what_cannot_be_used_is_told(file: Path, arguments: tuple[str, ...], told: str) -> None:
    done = await top(*arguments, "--topology", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


async def test_it_goes_on_line_after_line_until_it_is_interrupted(file: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*TOP, "--output", "json", "--every", "300ms", "--topology", str(file)),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=interruptible,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        taken = [json.loads(await process.stdout.readline())["taken_at"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert sorted(set(taken)) == taken
    assert (process.returncode, said) == (130, b"")


@pytest.mark.parametrize(("key", "code"), [(b"q", 0), (b"\x03", 130)])
async def test_on_a_terminal_it_draws_until_a_key_ends_it(file: Path, key: bytes, code: int) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*TOP, "--topology", str(file)],
        cwd=CHECKOUT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    drawn = b""
    try:
        while drawn.count(b"q quits") < 2:
            drawn += await asyncio.to_thread(os.read, ours, 65536)
        os.write(ours, key)
        ending = asyncio.create_task(asyncio.to_thread(drained, ours))
        assert await asyncio.to_thread(process.wait, 60) == code
        assert b"Traceback" not in drawn + await ending
    finally:
        process.kill()
        os.close(ours)


def own_terminal() -> None:
    """Makes the terminal the process's own, so that Ctrl-C on it reaches it."""
    interruptible()
    os.setsid()
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def drained(terminal: int) -> bytes:
    drawn = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return drawn
        if not piece:
            return drawn
        drawn += piece
