"""What all calls of one kind to one endpoint have in common: how they are named and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.metrics import Histogram
from opentelemetry.trace import SpanKind

from orchestrator.backends.endpoint import Endpoint
from orchestrator.telemetry import call_metrics, names

CallKind = Literal["model", "embedding", "collection", "tool"]

Attributes = Mapping[str, str | int]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Operation:
    """One kind of call to one endpoint; made once, so that a call costs little."""

    kind: CallKind
    offer: str
    name: str
    """As a step's timing says it, such as ``chat`` or ``search``."""

    span: str | None = None
    """The name of each call's span; None if they have none."""

    span_kind: SpanKind = SpanKind.CLIENT
    attributes: Attributes | None = None
    """Of the span, from its start."""

    measured: Attributes | None = None
    """Of what the metrics record."""

    duration: Histogram | None = None
    noted: bool = True
    """Whether the step's stopwatch is told; of two calls that enclose each other, one is."""


@dataclass(frozen=True)
class Store:
    """The database that keeps a collection, as its spans say it."""

    system: str
    span_kind: SpanKind
    address: Attributes
    namespace: str | None = None


def model_operation(endpoint: Endpoint, kind: CallKind, name: str) -> Operation:
    """A request to a model: ``chat`` or ``embeddings``.

    Its provider is the protocol: whose server speaks it, only address and model can tell.
    """
    attributes: dict[str, str | int] = {
        names.OPERATION_NAME: name,
        names.PROVIDER_NAME: endpoint.offer.spoken,
        names.REQUEST_MODEL: endpoint.target,
        **server(endpoint),
    }
    return Operation(
        kind=kind,
        offer=endpoint.offer.name,
        name=name,
        span=f"{name} {endpoint.target}",
        attributes={**attributes, **_offered(endpoint)},
        measured=attributes,
        duration=call_metrics.operation_duration,
    )


def tool_operation(endpoint: Endpoint) -> Operation:
    """A call of a tool that is somewhere else."""
    name = endpoint.offer.name
    return Operation(
        kind="tool",
        offer=name,
        name="call",
        span=f"{names.EXECUTE_TOOL} {name}",
        attributes={
            names.OPERATION_NAME: names.EXECUTE_TOOL,
            names.TOOL_NAME: name,
            names.TOOL_TYPE: names.TOOL_TYPE_EXTENSION,
            **server(endpoint),
            **_offered(endpoint),
        },
        measured={names.TOOL_NAME: name, names.TOOL_TYPE: names.TOOL_TYPE_EXTENSION},
        duration=call_metrics.tool_duration,
    )


def retrieval_operation(endpoint: Endpoint, store: Store) -> Operation:
    """A search, as agents know it; around that of the store."""
    attributes: dict[str, str | int] = {
        names.OPERATION_NAME: names.RETRIEVAL,
        names.PROVIDER_NAME: store.system,
        names.DATA_SOURCE_ID: endpoint.offer.name,
        **store.address,
    }
    return Operation(
        kind="collection",
        offer=endpoint.offer.name,
        name=names.RETRIEVAL,
        span=f"{names.RETRIEVAL} {endpoint.offer.name}",
        span_kind=store.span_kind,
        attributes={**attributes, **_offered(endpoint)},
        measured=attributes,
        duration=call_metrics.operation_duration,
        noted=False,
    )


def store_operation(endpoint: Endpoint, store: Store, name: str, command: str) -> Operation:
    """What a store is asked to do.

    Args:
        endpoint: The collection's.
        store: What keeps it.
        name: As a collection names it, such as ``search``.
        command: As the store names it, such as ``SELECT``.
    """
    summary = f"{command} {endpoint.target}"
    attributes: dict[str, str | int] = {
        names.DB_SYSTEM_NAME: store.system,
        names.DB_COLLECTION_NAME: endpoint.target,
        names.DB_OPERATION_NAME: command,
        names.DB_QUERY_SUMMARY: summary,
        **store.address,
    }
    if store.namespace:
        attributes[names.DB_NAMESPACE] = store.namespace
    return Operation(
        kind="collection",
        offer=endpoint.offer.name,
        name=name,
        span=summary,
        span_kind=store.span_kind,
        attributes={**attributes, names.DATA_SOURCE_ID: endpoint.offer.name, **_offered(endpoint)},
        measured=attributes,
        duration=call_metrics.database_duration,
    )


def minor_operation(endpoint: Endpoint, kind: CallKind, name: str) -> Operation:
    """A question about an offer that no convention has a span for, such as a tool's description."""
    return Operation(kind=kind, offer=endpoint.offer.name, name=name)


def server(endpoint: Endpoint) -> Attributes:
    """Host and port of an HTTP endpoint."""
    parts = urlsplit(endpoint.offer.endpoint)
    port = parts.port or _PORTS.get(parts.scheme)
    address: dict[str, str | int] = {}
    if parts.hostname:
        address[names.SERVER_ADDRESS] = parts.hostname
        if port:
            address[names.SERVER_PORT] = port
    return address


def _offered(endpoint: Endpoint) -> Attributes:
    return {names.OFFER: endpoint.offer.name, names.PLACE: endpoint.region}
