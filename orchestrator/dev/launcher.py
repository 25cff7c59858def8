"""Becomes another program that dies with the process that started it.

Run as ``python -I -S launcher.py PARENT COMMAND...``. Linux only sends the signal to a process
that asks for it, and Python code between fork and exec is unsafe where threads run: so a small
process asks, then turns into the command. Elsewhere it only turns into the command.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for the signal, make sure that the parent still lives, become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        # kill, not terminate: nobody is left who would end a process that does not listen
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it could be asked for
            sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
