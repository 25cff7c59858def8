"""Starting processes that a test interrupts."""

import signal


def interruptible() -> None:
    """For ``preexec_fn``: SIGINT has its effect, also where whoever runs the tests ignores it.

    A shell ignores it for what it runs in the background, and children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
