"""A real language model behind an OpenAI-compatible API: llama.cpp with SmolLM2-135M-Instruct.

``python -m orchestrator.dev.model_server --port 8080`` serves it on 127.0.0.1, and nowhere else,
because llama.cpp asks for no key and answers every origin.
"""

import argparse
import importlib
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from orchestrator.dev.processes import ChildProcess, Supervisor, default_threads
from orchestrator.dev.weights import chat_weights
from orchestrator.errors import StackError

MODEL = "smollm2-135m-instruct"
"""What the server calls the model."""

SLOTS = 4
"""How many answers it writes at a time."""

TOKENS_PER_SLOT = 3072
"""Question and answer together. The model itself was trained on up to 8192."""

PROMPT_CACHE_MIB = 128
READY_WITHIN = timedelta(seconds=120)


async def start_model_server(
    supervisor: Supervisor, *, port: int, threads: int, weights: Path
) -> ChildProcess:
    """Start the server as a process and wait until the model is loaded.

    Raises:
        StackError: It cannot start; the message ends with its log.
    """
    command = [sys.executable, "-m", __spec__.name, "--port", str(port), "--threads", str(threads)]
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


def serve(weights: Path, *, port: int, threads: int) -> None:
    """Serve the model until the process is told to end."""
    try:
        llama: Any = importlib.import_module("xllamacpp")  # it has no types
    except ImportError as error:
        raise StackError("there is no xllamacpp; install it: pip install 'edgeward[local]'") from error

    parameters = llama.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {MODEL}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * TOKENS_PER_SLOT  # llama.cpp shares it among the slots
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.cache_ram_mib = PROMPT_CACHE_MIB
    parameters.endpoint_metrics = True
    parameters.endpoint_slots = False
    parameters.offline = True
    parameters.ui = False
    server = llama.Server(parameters)
    print(f"listening on {server.listening_address}", flush=True)  # noqa: T201 -- it goes to the log
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    # nothing to save: do not wait for answers that nobody reads any more
    os._exit(0)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads that compute")
    parser.add_argument("--weights", type=Path, help="GGUF file; default: SmolLM2-135M-Instruct")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        weights = arguments.weights or chat_weights(progress=print)
        serve(weights, port=arguments.port, threads=arguments.threads)
    except (StackError, RuntimeError) as error:
        sys.exit(f"cannot serve the model: {error} (port {arguments.port} in use, or weights not readable?)")


if __name__ == "__main__":
    main()
