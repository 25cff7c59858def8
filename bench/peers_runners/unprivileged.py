"""Becomes another program that is not run by root: PostgreSQL refuses to be.

Run as ``python -I -S unprivileged.py COMMAND...`` by whoever ends it with itself.
"""

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
USER = "nobody"


def main() -> None:
    parent = os.getppid()
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        if sys.platform == "linux":
            # another user's process is no longer ended with its parent unless it asks again;
            # SIGQUIT is PostgreSQL's word for an end at once
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
            if os.getppid() != parent:
                sys.exit(1)
    os.execv(sys.argv[1], sys.argv[1:])


main()
