"""The standard environment variables that Edgeward's own code obeys; exporters read theirs themselves."""

from __future__ import annotations

import os

from orchestrator.telemetry import names

_ON_SPANS = frozenset({"true", "span_only", "span_and_event"})
"""Values of the switch that put contents on spans."""


def contents_captured() -> bool:
    """Whether spans may carry what is said to models and tools and what they answer; read anew each time."""
    return os.environ.get(names.CAPTURE_MESSAGE_CONTENT, "").strip().lower() in _ON_SPANS
