"""The calls of a step to models, collections and tools, as rows below it in the waterfall."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.timing import CallTiming
from orchestrator.trace import StepTrace


def call_rows(step: StepTrace) -> Iterator[tuple[object, ...]]:
    """A row for each call that the worker told, in the columns of the step's own row."""
    for call in step.calls:
        failed = f" ✗ {call.error}" if call.error else ""
        name = f"  {call.kind} {call.name}{failed}"
        yield ("", name, None, call.operation, call.retries + 1, None, call.took_ms, None, parts_of(call))
    if step.calls_left_out:
        yield ("", f"  and {step.calls_left_out} shorter calls", *[None] * 6, "")


def parts_of(call: CallTiming) -> str:
    """What is known of a call's parts, in words."""
    parts: list[str] = []
    if call.connect_ms is not None:
        parts.append(f"connect {_ms(call.connect_ms)}")
    if call.first_token_ms is not None:
        parts.append(f"first token {_ms(call.first_token_ms)}")
    if call.decode_ms is not None:
        parts.append(f"decode {_ms(call.decode_ms)}")
    return " · ".join([*parts, *_tokens(call)])


def _tokens(call: CallTiming) -> Iterator[str]:
    if call.input_tokens is None and call.output_tokens is None:
        return
    counts = [str(count) for count in (call.input_tokens, call.output_tokens) if count is not None]
    yield f"{' → '.join(counts)} tokens"
    if call.tokens_per_second is not None:
        yield f"{call.tokens_per_second:,.0f} tokens/s"


def _ms(took_ms: float) -> str:
    return f"{took_ms:,.0f} ms" if took_ms >= 10 else f"{took_ms:,.1f} ms"
