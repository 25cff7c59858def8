"""Logs of Edgeward's processes."""

from orchestrator.telemetry.logs import LogFormat, configure_logging

__all__ = ["LogFormat", "configure_logging"]
