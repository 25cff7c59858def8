"""A real embedding model behind an OpenAI-compatible API; what it is and does: ``serve_embedding``."""

import sys
from datetime import timedelta

from orchestrator.dev import serve_embedding
from orchestrator.dev.model_server import is_healthy
from orchestrator.dev.processes import ChildProcess, Supervisor
from orchestrator.dev.serve_embedding import DIMENSIONS, LONGEST_TEXT, MODEL

__all__ = ["DIMENSIONS", "LONGEST_TEXT", "MODEL", "start_embedding_server"]

READY_WITHIN = timedelta(seconds=60)


async def start_embedding_server(supervisor: Supervisor, *, port: int, threads: int) -> ChildProcess:
    """Start the server as a process and wait until the model is loaded.

    Raises:
        StackError: It cannot start; the message ends with its log.
    """
    command = [sys.executable, "-P", serve_embedding.__file__, "--port", str(port), "--threads", str(threads)]
    # texts are spread over the threads here, so OpenMP must not split each of them again
    process = await supervisor.start("embedding", command, environment={"OMP_NUM_THREADS": "1"})
    await process.until_ready(lambda: is_healthy(f"http://127.0.0.1:{port}/health"), within=READY_WITHIN)
    return process
