"""Calls with real providers, told as JSON: ``python -m tests.backends.measured_calls URL``."""

import asyncio
import contextlib
import json
import sys

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator.backends import Backends, Message
from orchestrator.errors import BackendOverloadedError
from orchestrator.topology.model import Offer
from tests.backends.conftest import region

ASKED = [Message.user("What is the capital of France?")]


async def call(url: str) -> None:
    offers = [
        Offer(kind="model", name="chat", endpoint=f"{url}/v1", target="smol"),
        Offer(kind="tool", name="weather", endpoint=url),
    ]
    async with Backends(region(*offers)) as backends:
        await backends.model("chat").chat_streaming(ASKED)
        await backends.model("chat").chat(ASKED)
        with contextlib.suppress(BackendOverloadedError):
            await backends.model("chat").chat(ASKED)
        await backends.tool("weather").call({"city": "Lisbon"})


def main() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    asyncio.run(call(sys.argv[1]))
    data = reader.get_metrics_data()
    assert data is not None
    told = {
        metric.name: {
            "unit": metric.unit,
            "bounds": list(metric.data.data_points[0].explicit_bounds),
            "points": [
                {"attributes": dict(point.attributes), "count": point.count, "sum": point.sum}
                for point in metric.data.data_points
            ],
        }
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    print(json.dumps({"spans": [span.name for span in exporter.get_finished_spans()], "metrics": told}))


if __name__ == "__main__":
    main()
