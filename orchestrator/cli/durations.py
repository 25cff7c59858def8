"""Durations and moments as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from orchestrator.errors import ConfigurationError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION = re.compile(r"(?P<number>\d{1,9}(\.\d{1,6})?)\s*(?P<unit>ms|s|m|h|d)")


def duration_of(text: str, option: str) -> timedelta:
    """A duration such as ``500ms``, ``2s``, ``1.5m``, ``3h`` or ``7d``.

    Args:
        text: What was typed.
        option: Where, for the error.

    Raises:
        ConfigurationError: It is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{option} {text!r} is no duration; write one like 500ms, 2s, 10m, 3h or 7d")
    return float(found["number"]) * _UNITS[found["unit"]]


def moment_of(text: str, option: str) -> datetime:
    """A moment: so long ago (``2h``), or a date with or without a time (``2026-11-25T08:00``).

    Without a time zone it is in UTC.

    Args:
        text: What was typed.
        option: Where, for the error.

    Raises:
        ConfigurationError: It is neither.
    """
    try:
        if _DURATION.fullmatch(text.strip()):
            return datetime.now(UTC) - duration_of(text, option)
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{option} {text!r} is no moment; write how long ago (30m, 2h, 7d) or a date like "
            "2026-11-25T08:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
