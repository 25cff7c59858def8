"""Starts the tool APIs of the embedded stack. ``serve_tools`` is what runs in their process."""

import sys
from datetime import timedelta

from orchestrator.dev.model_server import is_healthy
from orchestrator.dev.processes import ChildProcess, Supervisor

READY_WITHIN = timedelta(seconds=60)


async def start_tools(supervisor: Supervisor, *, port: int) -> ChildProcess:
    """Start the tools as a process and wait until they answer.

    Raises:
        StackError: They cannot start; the message ends with their log.
    """
    command = [sys.executable, "-m", "orchestrator.dev.serve_tools", "--port", str(port)]
    process = await supervisor.start("tools", command)
    await process.until_ready(lambda: is_healthy(f"http://127.0.0.1:{port}/health"), within=READY_WITHIN)
    return process
