"""The command as a user runs it: a process of its own."""

import subprocess
import sys

from tests.shared_data import CHECKOUT


def edgeward(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
