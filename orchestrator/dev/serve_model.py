"""The process that serves the chat model. It imports nothing of Edgeward, so that it is up at once."""

import argparse
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
"""What the server calls the model."""

SLOTS = 4
"""How many answers it writes at a time."""

TOKENS_PER_SLOT = 3072
"""Question and answer together. The model itself was trained on up to 8192."""

PROMPT_CACHE_MIB = 128


def serve(weights: Path, *, port: int, threads: int, host: str = "127.0.0.1") -> None:
    """Serve the model until the process is told to end.

    Args:
        weights: GGUF file.
        port: Where it listens.
        threads: Those that compute.
        host: Address of the interface. It asks for no key and answers every origin: any other than
            loopback belongs behind a network that only its callers are in.

    Raises:
        ImportError: llama.cpp is not installed.
        RuntimeError: The port is in use, or the weights cannot be read.
    """
    # the mask is inherited by llama.cpp's threads, so that the signals come to this one
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    llama: Any = importlib.import_module("xllamacpp")  # it has no types
    parameters = llama.CommonParams()
    parameters.model.path = str(weights)
    parameters.model_alias = {MODEL}
    parameters.hostnames = [host]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port")
    parser.add_argument("--host", default="127.0.0.1", help="address of the interface; default: loopback")
    parser.add_argument("--threads", type=int, required=True, help="threads that compute")
    parser.add_argument("--weights", type=Path, required=True, help="GGUF file")
    arguments = parser.parse_args()
    try:
        serve(arguments.weights, port=arguments.port, threads=arguments.threads, host=arguments.host)
    except (ImportError, RuntimeError) as error:
        sys.exit(f"cannot serve the model: {error}")


if __name__ == "__main__":
    main()
