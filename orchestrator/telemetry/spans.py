"""Spans whose ids can be said beforehand, and where a run stands in its trace.

The id of a run's span follows from Temporal's run id, that of a queued step from run and activity: so
the parts of a run's tree fit together whatever processes emit them, and none has to stay open.
Everything else has random ids.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import cast

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from orchestrator.telemetry import names
from orchestrator.telemetry.told_span import ToldSpan

log = structlog.get_logger(__name__)

Attributes = Mapping[str, AttributeValue]

_SAMPLED, _UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)

NOWHERE = Context()
"""No span at all; not whatever happens to be the current one."""

MOST_READ = 1024
"""So many contexts that were read are kept: each step of a run brings the same one."""

MOST_EMITTED = 65_536
"""So many ids of spans are kept that were emitted here, so that none is emitted twice."""

# what the current context is kept in is found with the first use, by reading files, which the workflow
# sandbox forbids
trace.get_current_span()

_propagator = TraceContextTextMapPropagator()

_PLAIN = re.compile(rb'\{"traceparent": "00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})"\}')
"""What ``written`` writes nearly always; anything else is left to the propagator."""


def run_span_id(run_id: str) -> int:
    """Of a run's span, by Temporal's run id."""
    return _derived(f"run/{run_id}", 8)


def run_trace_id(run_id: str) -> int:
    """Of a run that nobody's trace leads to, by the run id of the first of its chain."""
    return _derived(f"trace/{run_id}", 16)


def step_span_id(run_id: str, activity_id: str) -> int:
    """Of a queued step's span."""
    return _derived(f"step/{run_id}/{activity_id}", 8)


def _derived(text: str, size: int) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest()) or 1


class SpanWriter:
    """Writes spans with ids of its own choice, for a tracer of the SDK.

    Args:
        tracer: Whose sampler, resource, processors and random ids apply.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._emitted: OrderedDict[Hashable, None] = OrderedDict()
        self._claiming = threading.Lock()

    def samples(self, parent: Context, trace_id: int, name: str, attributes: Attributes) -> bool:
        """Whether a span with this parent, or none, is to be recorded."""
        sampler = self._tracer.sampler
        return sampler.should_sample(parent, trace_id, name, attributes=attributes).decision.is_sampled()

    def claim(self, span: Hashable) -> bool:
        """Whether this process has seen an id, or what else names a span, for the first time.

        A workflow task that failed is tried again, and its code runs once more without being a replay.
        """
        with self._claiming:
            if span in self._emitted:
                return False
            self._emitted[span] = None
            if len(self._emitted) > MOST_EMITTED:
                self._emitted.popitem(last=False)
            return True

    def start_client(self, name: str, attributes: dict[str, AttributeValue]) -> Span:
        """A client's span, below the current one, that has begun now."""
        return self.start(name, contexts.get_current(), attributes, kind=SpanKind.CLIENT)

    def start(
        self,
        name: str,
        parent: Context,
        attributes: dict[str, AttributeValue],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        start_ns: int | None = None,
        links: Sequence[Link] = (),
        span_id: int | None = None,
        trace_id: int | None = None,
        sampled: bool | None = None,
    ) -> Span:
        """A span that has begun.

        Args:
            name: Of the span.
            parent: With the span above.
            attributes: From its start; they are the span's from now on.
            kind: Of the span.
            start_ns: When it began, since 1970; now if left out.
            links: To other spans.
            span_id: Random if left out.
            trace_id: For a span without a parent; random if left out.
            sampled: What was decided before; the sampler is asked if left out.
        """
        above = trace.get_current_span(parent).get_span_context()
        ids = self._tracer.id_generator
        trace_id = above.trace_id if above.is_valid else trace_id or ids.generate_trace_id()
        if sampled is None:
            sampled = self.samples(parent, trace_id, name, attributes)
        context = SpanContext(
            trace_id,
            span_id or ids.generate_span_id(),
            is_remote=False,
            trace_flags=_SAMPLED if sampled else _UNSAMPLED,
            trace_state=above.trace_state,
        )
        if not sampled:
            return NonRecordingSpan(context)
        span = ToldSpan(
            self._tracer,
            name,
            context,
            above if above.is_valid else None,
            kind=kind,
            attributes=attributes,
            start_ns=time.time_ns() if start_ns is None else start_ns,
            links=links,
        )
        span.begin(parent)
        return span


def span_writer() -> SpanWriter | None:
    """Of the global tracer provider; None where there is none, or one that takes no ids."""
    global _current
    provider = trace.get_tracer_provider()
    if provider is not _current[0]:
        _current = (provider, _writer_of(provider))
    return _current[1]


_current: tuple[object, SpanWriter | None] = (None, None)
"""The provider that was asked last, and its writer."""


def _writer_of(provider: trace.TracerProvider) -> SpanWriter | None:
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    if not isinstance(provider, TracerProvider):
        log.warning(
            "telemetry.foreign_provider",
            provider=type(provider).__name__,
            remedy="set a TracerProvider of opentelemetry-sdk; runs and steps have no spans otherwise",
        )
        return None
    tracer = provider.get_tracer(names.INSTRUMENTATION_SCOPE)
    return SpanWriter(tracer) if isinstance(tracer, Tracer) else None


def context_of(trace_id: int, span_id: int, *, sampled: bool, like: SpanContext | None = None) -> Context:
    """A context with a span that others emit as the current one."""
    flags = _SAMPLED if sampled else _UNSAMPLED
    state = like.trace_state if like is not None else None
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags, trace_state=state)
    return trace.set_span_in_context(NonRecordingSpan(context), NOWHERE)


def written(context: Context) -> bytes:
    """A context as JSON, with the names and the form of W3C Trace Context."""
    span = trace.get_current_span(context).get_span_context()
    if span.is_valid and not span.trace_state:
        # as below, in a third of the time: it is done for each run
        text = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
        return f'{{"traceparent": "{text}"}}'.encode()
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, context)
    return json.dumps(carrier).encode()


@lru_cache(maxsize=MOST_READ)
def read(data: bytes) -> Context:
    """The context that ``written`` wrote, or another SDK; without a span if it cannot be read."""
    plain = _PLAIN.fullmatch(data)
    if plain is not None:
        trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
        span = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        return trace.set_span_in_context(NonRecordingSpan(span), NOWHERE) if span.is_valid else NOWHERE
    try:
        carrier: object = json.loads(data)
    except ValueError:
        return NOWHERE
    if not isinstance(carrier, dict):
        return NOWHERE
    pairs = cast("dict[str, object]", carrier).items()
    return _propagator.extract({key: value for key, value in pairs if isinstance(value, str)}, NOWHERE)


@dataclass(frozen=True)
class RunPosition:
    """Where a run stands in its trace: the same in every process that runs or replays it."""

    run_id: str
    trace_id: int
    above: Context
    """With the span of who started it; empty if nobody's trace leads here."""

    context: Context
    """With the run's own span."""

    sampled: bool

    @property
    def has_parent(self) -> bool:
        """Whether somebody's trace leads here."""
        return trace.get_current_span(self.above).get_span_context().is_valid


def step_context(run: Context, run_id: str, activity_id: str) -> Context:
    """With the span of a queued step.

    Args:
        run: With the span of its run.
        run_id: Temporal's.
        activity_id: Of the step.
    """
    above = trace.get_current_span(run).get_span_context()
    if not above.is_valid:
        return run
    return context_of(
        above.trace_id, step_span_id(run_id, activity_id), sampled=above.trace_flags.sampled, like=above
    )


def position_of_run(
    writer: SpanWriter | None,
    run_id: str,
    first_run_id: str,
    above: Context,
    name: str,
    attributes: Attributes,
) -> RunPosition:
    """Where a run stands.

    Args:
        writer: Decides whether it is sampled; where there is none it is as who started it says.
        run_id: Temporal's.
        first_run_id: Of the first run of its chain.
        above: From the header of its start.
        name: Of its span.
        attributes: Of its span, as far as samplers may ask for them.
    """
    parent = trace.get_current_span(above).get_span_context()
    trace_id = parent.trace_id if parent.is_valid else run_trace_id(first_run_id)
    if writer is None:
        sampled = parent.is_valid and parent.trace_flags.sampled
    else:
        sampled = writer.samples(above, trace_id, name, attributes)
    context = context_of(trace_id, run_span_id(run_id), sampled=sampled, like=parent)
    return RunPosition(run_id, trace_id, above, context, sampled)


def link_to_run(run_id: str, trace_id: int) -> Link:
    """To the span of another run of the same trace."""
    context = context_of(trace_id, run_span_id(run_id), sampled=True)
    return Link(trace.get_current_span(context).get_span_context())
