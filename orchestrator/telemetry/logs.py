"""Logs: structlog events with keys, to standard error, as text or as JSON lines."""

import logging
import sys
from enum import StrEnum
from typing import Any

import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from orchestrator.context import current_step


class LogFormat(StrEnum):
    """How log lines are written."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


def configure_logging(log_format: LogFormat = LogFormat.AUTO, *, level: int = logging.INFO) -> None:
    """Sends this process's log lines, and those of the libraries it uses, to standard error.

    Args:
        log_format: Text for people or JSON for programs; ``auto`` looks at the terminal.
        level: Lines below it are left out. Libraries are heard from warnings on.
    """
    as_text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_step,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _without_traceback,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _with_step(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Says in which step of which run a line was written, and in which trace."""
    del logger, method
    step = current_step()
    if step is not None:
        for key, value in (("run", step.workflow_id), ("step", step.step), ("place", step.region)):
            event.setdefault(key, value)
        event.setdefault("sequence", step.sequence)
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"], event["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    return event


def _without_traceback(logger: Any, method: str, event: Any) -> Any:
    """A failed step is an ordinary event of a run; its history has the stack trace."""
    if "activity_type" in str(event.get("event", "")):
        event.pop("exception", None)
    return event
