"""The names of task queues, in one place: ``<region>.agents``, ``<region>.homebound``, ``<region>.<kind>``.

Region names hold no dot (see ``topology``), so a queue's name can be read back.
"""

import functools
import re

from orchestrator.errors import ConfigurationError

_AGENTS = "agents"
_HOMEBOUND = "homebound"
_KIND = re.compile(r"[a-z]([a-z0-9_-]{0,61}[a-z0-9])?")
_QUEUE = re.compile(
    r"(?P<region>[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)\.(?P<kind>[a-z]([a-z0-9_-]{0,61}[a-z0-9])?)"
)


def agents_queue(region: str, *, homebound: bool = False) -> str:
    """The queue of the workflows that have their home in the region.

    Args:
        region: The home.
        homebound: Whether no other region may stand in for the home: its workers alone poll this queue.
    """
    return f"{region}.{_HOMEBOUND if homebound else _AGENTS}"


@functools.lru_cache(maxsize=16_384)
def step_queue(region: str, kind: str) -> str:
    """The queue of the steps of one kind that have their place in the region.

    Raises:
        ConfigurationError: The kind is no name, or is the one that workflows use.
    """
    return f"{region}.{checked_kind(kind)}"


def checked_kind(kind: str) -> str:
    """The kind itself, if it can be part of a queue's name.

    Raises:
        ConfigurationError: It cannot; the message says what would.
    """
    if kind in (_AGENTS, _HOMEBOUND):
        raise ConfigurationError(
            f"a step has the kind {kind!r}, which names the queues of workflows; choose another, like 'tool'"
        )
    if not _KIND.fullmatch(kind):
        raise ConfigurationError(
            f"{kind!r} is no kind of step; start with a lower-case letter and go on with letters, digits, "
            "hyphens or underscores, at most 63, such as 'model'"
        )
    return kind


def region_of(queue: str) -> str | None:
    """The region that the queue belongs to; None for a queue that was named otherwise."""
    return _parts(queue)[0]


def kind_of(queue: str) -> str | None:
    """The kind of the steps in the queue; None for workflows' queues and those named otherwise."""
    return _parts(queue)[1]


@functools.lru_cache(maxsize=16_384)
def _parts(queue: str) -> tuple[str | None, str | None]:
    found = _QUEUE.fullmatch(queue)
    if found is None:
        return None, None
    return found["region"], None if found["kind"] in (_AGENTS, _HOMEBOUND) else found["kind"]
