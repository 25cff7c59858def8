"""What the environment asks for, and what it gets; each case in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.telemetry import providers
from tests.telemetry.processes import CHECKOUT, QUIET

STATE = """
import json
from opentelemetry import metrics, trace
from orchestrator.dispatch.tracing.spans import active_tracing
from orchestrator.telemetry import start_telemetry
{before}
start_telemetry("edgeward-worker", "frankfurt")
tracing = active_tracing()
provider = trace.get_tracer_provider()
print(json.dumps({{
    "provider": type(provider).__name__,
    "meters": type(metrics.get_meter_provider()).__name__,
    "writes": tracing is not None and tracing.writer is not None,
    "measures": tracing is not None and tracing.measures,
    "resource": dict(getattr(provider, "resource", None).attributes) if tracing and tracing.writer else None,
    "exporters": [
        type(processor.span_exporter._exporter).__module__
        for processor in getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
        if hasattr(processor, "span_exporter")
    ],
}}))
"""


def state(before: str = "", **environment: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", STATE.format(before=dedent(before))],
        cwd=CHECKOUT,
        env={**QUIET, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_nothing_is_told_unless_it_is_asked_for() -> None:
    off = state()
    assert (off["writes"], off["measures"], off["exporters"]) == (False, False, [])
    assert off["provider"] == "ProxyTracerProvider"


@pytest.mark.parametrize(
    ("environment", "writes", "measures"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "console"}, True, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, False, False),
    ],
)
def test_the_standard_variables_turn_it_on(environment: dict[str, str], writes: bool, measures: bool) -> None:
    on = state(**environment)
    assert (on["writes"], on["measures"]) == (writes, measures)


def test_the_protocol_chooses_the_exporter() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_METRICS_EXPORTER": "none"}
    assert ".http." in state(**endpoint)["exporters"][0]
    assert ".grpc." in state(**endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")["exporters"][0]


def test_the_resource_says_who_and_where_and_the_environment_has_the_last_word() -> None:
    asked = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    resource = state(**asked)["resource"]
    assert (resource["service.name"], resource["cloud.region"]) == ("edgeward-worker", "frankfurt")
    assert resource["service.instance.id"]
    assert resource["host.id"]
    said = "service.name=mine,cloud.region=eu-central-1,deployment.environment.name=staging"
    resource = state(**asked, OTEL_RESOURCE_ATTRIBUTES=said)["resource"]
    assert (resource["service.name"], resource["cloud.region"]) == ("mine", "eu-central-1")
    assert resource["deployment.environment.name"] == "staging"
    assert state(**asked, OTEL_SERVICE_NAME="named")["resource"]["service.name"] == "named"


def test_providers_of_the_application_are_kept() -> None:
    kept = state(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.resources import Resource
        trace.set_tracer_provider(TracerProvider(resource=Resource({"service.name": "theirs"})))
        """,
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
    )
    assert (kept["writes"], kept["resource"], kept["exporters"]) == (True, {"service.name": "theirs"}, [])


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: no exporter of this name"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/json: no such protocol; write http/protobuf or grpc",
        ),
    ],
)
def test_what_cannot_be_had_is_one_message(tmp_path: Path, environment: dict[str, str], says: str) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text(
        '[cells.here]\nregion = "here"\naddress = "127.0.0.1:1"\n[regions.here]\n'
        'coordinates = [50.1, 8.7]\ncountry = "DE"\ncell = "here"\n'
    )
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "orchestrator.cli",
                "worker",
                "run",
                "tests.telemetry.agents:application",
            ),
            *("--region", "here", "--topology", str(topology)),
        ],
        cwd=CHECKOUT,
        env={**QUIET, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_exporter_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setattr(providers, "entry_points", lambda **_: ())
    with pytest.raises(ConfigurationError, match=r"OTEL_TRACES_EXPORTER=otlp: .*edgeward\[otlp\]"):
        providers._exporters("traces", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
