"""What Edgeward's processes tell of themselves: logs, spans and metrics."""

from orchestrator.telemetry.logs import LogFormat, configure_logging
from orchestrator.telemetry.providers import flush_telemetry, start_telemetry, stop_telemetry

__all__ = ["LogFormat", "configure_logging", "flush_telemetry", "start_telemetry", "stop_telemetry"]
