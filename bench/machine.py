"""What a machine is, as far as figures depend on it: no name, no address, no path."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestrator.dev.temporal_server import temporal_program
from orchestrator.errors import StackError


def machine() -> dict[str, Any]:
    """Processor, memory, system, and the versions of what the figures are of."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": _system(),
        "python": platform.python_version(),
        "temporalio": version("temporalio"),
        "temporal_server": _server_version(),
    }


def _cpu() -> str:
    try:
        known = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        known = None
    return known[1].strip() if known else platform.processor() or platform.machine()


def _system() -> str:
    # what a vendor adds to its kernel's version says where it runs, and nothing about speed
    release = re.match(r"\d+(\.\d+)*", platform.release())
    return " ".join(part for part in (platform.system(), release and release[0], platform.machine()) if part)


def _server_version() -> str | None:
    try:
        told = subprocess.run([temporal_program(), "--version"], capture_output=True, text=True, check=False)
    except StackError:
        return None
    found = re.search(r"Server ([\d.]+)", told.stdout)
    return found[1] if found else None
