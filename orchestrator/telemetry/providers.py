"""OpenTelemetry's providers, from the standard environment variables. Off unless they ask for it.

A process that has set up global providers of its own keeps them: then these variables are theirs.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import structlog
from opentelemetry import metrics, trace
from opentelemetry.sdk import environment_variables as variables
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from orchestrator.errors import ConfigurationError
from orchestrator.telemetry import names
from orchestrator.telemetry.discretion import DiscreetExporter

log = structlog.get_logger(__name__)

SPAN_DELAY = timedelta(milliseconds=500)
"""How long an ended span waits for others to be sent with, unless OTEL_BSP_SCHEDULE_DELAY says otherwise:
what a killed process loses. OpenTelemetry's own default is five seconds."""

FLUSH_WITHIN = timedelta(seconds=5)
"""How long a process that ends waits for a collector to take what is left."""

_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_DEFAULT_PROTOCOL = "http/protobuf"

_starting = threading.Lock()
_ours: list[TracerProvider | MeterProvider] = []
_started = False


def start_telemetry(service: str, region: str | None = None) -> None:
    """Sets up the global providers that the environment asks for; once a process, later calls do nothing.

    Args:
        service: The ``service.name``, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has one.
        region: Where this process runs, if in a region.

    Raises:
        ConfigurationError: An exporter is asked for that is not known or not installed.
    """
    global _started
    with _starting:
        if _started:
            return
        if not _disabled():
            _set_up(service, region)
        _started = True
        if _ours:
            # the SDK would wait longer for a collector that is away
            atexit.register(stop_telemetry)


def flush_telemetry(within: timedelta = FLUSH_WITHIN) -> None:
    """Sends what was recorded up to now. Blocks; does nothing where telemetry is off.

    Args:
        within: How long to wait for a collector that does not answer.
    """
    _bounded(within, lambda provider: provider.force_flush())


def stop_telemetry(within: timedelta = FLUSH_WITHIN) -> None:
    """Sends what is left; nothing is recorded afterwards. For processes that are about to end.

    Args:
        within: How long to wait for a collector that does not answer.
    """
    _bounded(within, lambda provider: provider.shutdown())
    _ours.clear()


def _set_up(service: str, region: str | None) -> None:
    traces = _exporters("traces", variables.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
    measures = _exporters("metrics", variables.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT)
    resource = _resource(service, region)
    if traces and not isinstance(trace.get_tracer_provider(), TracerProvider):
        _set_tracer_provider([load() for load in traces], resource)
    if measures and not isinstance(metrics.get_meter_provider(), MeterProvider):
        readers = [_reader(load()) for load in measures]
        provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        metrics.set_meter_provider(provider)
        _ours.append(provider)


def _set_tracer_provider(exporters: list[Any], resource: Resource) -> None:
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    said = os.environ.get(variables.OTEL_BSP_SCHEDULE_DELAY)
    delay_ms = None if said else SPAN_DELAY / timedelta(milliseconds=1)
    for exporter in exporters:
        discreet = DiscreetExporter(exporter)
        provider.add_span_processor(BatchSpanProcessor(discreet, schedule_delay_millis=delay_ms))
    trace.set_tracer_provider(provider)
    _ours.append(provider)


def _reader(exporter: Any) -> MetricReader:
    # some, such as Prometheus's, are asked instead of sending
    return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)


def _disabled() -> bool:
    return os.environ.get(variables.OTEL_SDK_DISABLED, "").strip().lower() == "true"


def _exporters(signal: str, endpoint_variable: str) -> list[Callable[[], Any]]:
    """What makes the exporters of a signal; none where nothing asks for them."""
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    asked = os.environ.get(variable, "").strip()
    if not asked:
        endpoints = (endpoint_variable, variables.OTEL_EXPORTER_OTLP_ENDPOINT)
        if not any(os.environ.get(endpoint) for endpoint in endpoints):
            return []
        asked = "otlp"
    named = [name.strip() for name in asked.split(",")]
    return [_exporter(name, signal, variable) for name in named if name and name.lower() != "none"]


def _exporter(name: str, signal: str, variable: str) -> Callable[[], Any]:
    known = f"opentelemetry_{signal}_exporter"
    entry = _PROTOCOLS[_protocol(signal)] if name == "otlp" else name
    found = next(iter(entry_points(group=known, name=entry)), None)
    if found is None:
        raise ConfigurationError(f"{variable}={name}: {_remedy(name, entry)}")
    return _loaded(found, f"{variable}={name}")


def _loaded(found: EntryPoint, setting: str) -> Callable[[], Any]:
    try:
        return found.load()
    except ImportError as error:
        raise ConfigurationError(
            f"{setting}: the exporter cannot be loaded ({error}); reinstall its package"
        ) from error


def _remedy(name: str, entry: str) -> str:
    if name.startswith("otlp"):
        return (
            f"the exporter is not installed; install edgeward[otlp], or opentelemetry-exporter-"
            f"{entry.replace('_', '-')}"
        )
    return "no exporter of this name is installed; write otlp, console or none, or install its package"


def _protocol(signal: str) -> str:
    of_signal = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
    for variable in (of_signal, variables.OTEL_EXPORTER_OTLP_PROTOCOL):
        protocol = os.environ.get(variable, "").strip()
        if protocol and protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"{variable}={protocol}: no such protocol; write {' or '.join(_PROTOCOLS)}"
            )
        if protocol:
            return protocol
    return _DEFAULT_PROTOCOL


def _resource(service: str, region: str | None) -> Resource:
    said: Mapping[str, Any] = OTELResourceDetector().detect().attributes
    ours = {
        names.SERVICE_NAME: service,
        names.SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        names.HOST_ID: _host_id(),
    }
    if region is not None:
        ours[names.CLOUD_REGION] = region
    return Resource.create({key: value for key, value in ours.items() if key not in said})


def _host_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or f"{uuid.getnode():x}"
    except (OSError, UnicodeDecodeError):
        return f"{uuid.getnode():x}"


def _bounded(within: timedelta, act: Callable[[TracerProvider | MeterProvider], object]) -> None:
    """The SDK's own time limits do not hold where a collector is away."""
    ends_at = time.monotonic() + within.total_seconds()
    waiting = [
        threading.Thread(target=act, args=(provider,), name="telemetry", daemon=True) for provider in _ours
    ]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(max(0.0, ends_at - time.monotonic()))
        if thread.is_alive():
            log.warning("telemetry.not_flushed", within_s=within.total_seconds())
