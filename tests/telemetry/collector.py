"""A receiver of OTLP over HTTP and gRPC that keeps what arrives, decoded."""

from __future__ import annotations

import asyncio
import gzip
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvicorn
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: tuple[str, ...]
    events: tuple[str, ...]
    failed: bool


@dataclass
class Collector:
    """What has arrived."""

    spans: list[ReceivedSpan] = field(default_factory=list)
    metrics: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    protocols: set[str] = field(default_factory=set)
    raw: list[bytes] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def take_traces(self, request: ExportTraceServiceRequest, protocol: str) -> None:
        self.raw.append(request.SerializeToString())
        self.protocols.add(protocol)
        for of_resource in request.resource_spans:
            resource = plain(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        ReceivedSpan(
                            name=span.name,
                            trace_id=span.trace_id.hex(),
                            span_id=span.span_id.hex(),
                            parent_id=span.parent_span_id.hex(),
                            kind=span.kind,
                            start_ns=span.start_time_unix_nano,
                            end_ns=span.end_time_unix_nano,
                            attributes=plain(span.attributes),
                            resource=resource,
                            links=tuple(link.span_id.hex() for link in span.links),
                            events=tuple(event.name for event in span.events),
                            failed=span.status.code == 2,
                        )
                    )
        self._arrived.set()

    def take_metrics(self, request: ExportMetricsServiceRequest, protocol: str) -> None:
        self.raw.append(request.SerializeToString())
        self.protocols.add(protocol)
        for of_resource in request.resource_metrics:
            for scope in of_resource.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    for point in data.data_points:
                        said = MessageToDict(point, preserving_proto_field_name=True)
                        said["attributes"] = plain(point.attributes)
                        self.metrics.setdefault(metric.name, []).append(said)
        self._arrived.set()

    async def until(self, true: Callable[[Collector], bool]) -> None:
        """Waits for something to have arrived."""
        async with asyncio.timeout(60):
            while not true(self):
                self._arrived.clear()
                await self._arrived.wait()

    def counted(self, run: str) -> int:
        """How many spans of a run there are, without inline steps that ran again."""
        return sum(not span.attributes.get("edgeward.repeated") for span in self.of_run(run))

    def of_run(self, run: str) -> list[ReceivedSpan]:
        """All spans of the trace that a run is in."""
        traces = {span.trace_id for span in self.spans if span.attributes.get("edgeward.run.id") == run}
        return [span for span in self.spans if span.trace_id in traces]


def plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: value_of(pair.value) for pair in attributes}


def value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@dataclass
class Tree:
    """Spans as one tree; fails where they are none."""

    spans: list[ReceivedSpan]

    def __post_init__(self) -> None:
        assert self.spans
        twice = [id for id, count in Counter(span.span_id for span in self.spans).items() if count > 1]
        assert twice == [], f"emitted twice: {[s.name for s in self.spans if s.span_id in twice]}"
        assert len({span.trace_id for span in self.spans}) == 1
        known = {span.span_id for span in self.spans}
        lost = [span.name for span in self.spans if span.parent_id and span.parent_id not in known]
        assert lost == [], f"without their parents: {lost}"
        assert len(self.roots()) == 1, [span.name for span in self.roots()]

    def roots(self) -> list[ReceivedSpan]:
        return [span for span in self.spans if not span.parent_id]

    def below(self, span: ReceivedSpan) -> list[ReceivedSpan]:
        children = [child for child in self.spans if child.parent_id == span.span_id]
        return sorted(children, key=lambda child: child.start_ns)

    def one(self, name: str) -> ReceivedSpan:
        (found,) = self.all(name)
        return found

    def all(self, name: str) -> list[ReceivedSpan]:
        found = [span for span in self.spans if span.name == name]
        return sorted(found, key=lambda span: span.start_ns)

    def shape(self, span: ReceivedSpan | None = None) -> Any:
        """Names, nested: a leaf is its name, everything else a list that begins with it.

        Without inline steps that really ran again, because their run was let go meanwhile.
        """
        span = span or self.roots()[0]
        once = [child for child in self.below(span) if not child.attributes.get("edgeward.repeated")]
        children = [self.shape(child) for child in once]
        return [span.name, *children] if children else span.name


class _Traces(TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 -- gRPC's name
        self._collector.take_traces(request, "grpc")
        return ExportTraceServiceResponse()


class _Metrics(MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    async def Export(self, request: Any, context: Any) -> ExportMetricsServiceResponse:  # noqa: N802 -- gRPC's name
        self._collector.take_metrics(request, "grpc")
        return ExportMetricsServiceResponse()


@asynccontextmanager
async def grpc_collector(collector: Collector) -> AsyncIterator[str]:
    """Its endpoint."""
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(_Traces(collector), server)
    add_MetricsServiceServicer_to_server(_Metrics(collector), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def http_collector(collector: Collector) -> AsyncIterator[str]:
    """Its endpoint."""

    async def body(request: Request) -> bytes:
        data = await request.body()
        return gzip.decompress(data) if request.headers.get("content-encoding") == "gzip" else data

    async def traces(request: Request) -> Response:
        collector.take_traces(ExportTraceServiceRequest.FromString(await body(request)), "http")
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")

    async def metrics(request: Request) -> Response:
        collector.take_metrics(ExportMetricsServiceRequest.FromString(await body(request)), "http")
        return Response(
            ExportMetricsServiceResponse().SerializeToString(), media_type="application/x-protobuf"
        )

    app = Starlette(
        routes=[
            Route("/v1/traces", traces, methods=["POST"]),
            Route("/v1/metrics", metrics, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving
