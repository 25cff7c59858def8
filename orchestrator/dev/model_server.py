"""A real language model behind an OpenAI-compatible API: llama.cpp with SmolLM2-135M-Instruct.

``python -m orchestrator.dev.model_server --port 8080`` serves it on 127.0.0.1. llama.cpp asks for no key and
answers every origin: another ``--host`` is for a network that only its callers are in.
"""

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import httpx

from orchestrator.dev import serve_model
from orchestrator.dev.processes import ChildProcess, Supervisor, default_threads
from orchestrator.dev.serve_model import MODEL, SLOTS, TOKENS_PER_SLOT
from orchestrator.dev.weights import chat_weights
from orchestrator.errors import StackError

__all__ = ["MODEL", "SLOTS", "TOKENS_PER_SLOT", "is_healthy", "start_model_server"]

READY_WITHIN = timedelta(seconds=120)


async def start_model_server(
    supervisor: Supervisor, *, port: int, threads: int, weights: Path
) -> ChildProcess:
    """Start the server as a process and wait until the model is loaded.

    Raises:
        StackError: It cannot start; the message ends with its log.
    """
    command = [sys.executable, "-P", serve_model.__file__, "--port", str(port), "--threads", str(threads)]
    process = await supervisor.start("model", [*command, "--weights", str(weights)])
    await process.until_ready(lambda: is_healthy(f"http://127.0.0.1:{port}/health"), within=READY_WITHIN)
    return process


async def is_healthy(url: str) -> bool:
    """Whether this address answers with success."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return (await client.get(url)).is_success
    except httpx.HTTPError:
        return False


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port")
    parser.add_argument("--host", default="127.0.0.1", help="address of the interface; default: loopback")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads that compute")
    parser.add_argument("--weights", type=Path, help="GGUF file; default: SmolLM2-135M-Instruct")
    arguments = parser.parse_args()
    try:
        weights = arguments.weights or chat_weights(progress=print)
        serve_model.serve(weights, port=arguments.port, threads=arguments.threads, host=arguments.host)
    except (StackError, ImportError, RuntimeError) as error:
        sys.exit(f"cannot serve the model: {error}")


if __name__ == "__main__":
    main()
