"""Workers whose wall clock can jump while they run.

With libfaketime (Debian: ``apt install faketime``) every clock read of the process is bent, that of
Temporal's core too, but for the monotonic clock, which no jump bends on a real machine. Without it,
``python -m bench.chaos.clock`` runs the worker with a ``time.time`` that jumps: Python alone then sees it.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

OFFSET_FILE = "EDGEWARD_CHAOS_CLOCK"

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def library() -> Path | None:
    """libfaketime for programs with threads, where it is installed."""
    found = [path for pattern in _LIBRARIES for path in Path("/").glob(pattern.removeprefix("/"))]
    return found[0] if found else None


def means() -> str:
    """How clocks are bent here, for the report."""
    return "libfaketime" if library() else "a patched time.time"


def environment(offset: Path) -> Mapping[str, str]:
    """Variables of a process whose clock follows the file."""
    set_offset(offset, timedelta(0))
    preload = library()
    if preload is None:
        return {OFFSET_FILE: str(offset)}
    return {
        "LD_PRELOAD": str(preload),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def command(line: Sequence[str]) -> list[str]:
    """The command line ``python -m MODULE ...`` of a process whose clock follows its file."""
    if library() is not None:
        return list(line)
    python, dash_m, *rest = line
    return [python, dash_m, "bench.chaos.clock", *rest]


def set_offset(offset: Path, shift: timedelta) -> None:
    """Let the clocks that follow the file be wrong by so much, within about a second."""
    unfinished = offset.with_suffix(".new")
    unfinished.write_text(f"{shift.total_seconds():+g}\n")
    unfinished.replace(offset)


def _patched() -> None:
    """Run the module of the command line with a ``time.time`` that follows the file."""
    import runpy

    true_time, offset = time.time, Path(os.environ[OFFSET_FILE])

    def time_now() -> float:
        return true_time() + float(offset.read_text())

    def time_ns_now() -> int:
        return int(time_now() * 1e9)

    time.time, time.time_ns = time_now, time_ns_now
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _patched()
