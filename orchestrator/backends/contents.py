"""What is said to models and tools, as spans may carry it: only where the environment turns it on.

The switch is the one of the OpenTelemetry conventions, and so is the form of the messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.backends.messages import Message, ToolCall
from orchestrator.backends.observed import Call
from orchestrator.telemetry import names
from orchestrator.telemetry.switches import contents_captured


def asked(messages: Sequence[Message]) -> str:
    """What a model is told, system messages among it, as ``gen_ai.input.messages``."""
    return _text([{"role": message.role, "parts": _parts(message)} for message in messages])


def answered(text: str, calls: Sequence[ToolCall], finish_reason: str | None) -> str:
    """What a model answered, as ``gen_ai.output.messages``."""
    parts = _parts(Message.assistant(text, tool_calls=calls))
    return _text([{"role": "assistant", "parts": parts, "finish_reason": _reason(finish_reason)}])


def tell_arguments(call: Call, arguments: Mapping[str, object]) -> None:
    """Puts on a tool's span what the tool is given."""
    if call.recorded and contents_captured():
        call.describe({names.TOOL_CALL_ARGUMENTS: _text(arguments)})


def tell_result(call: Call, text: str) -> None:
    """Puts on a tool's span what the tool answered, as a model reads it."""
    if call.recorded and contents_captured():
        call.describe({names.TOOL_CALL_RESULT: text})


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_call_response", "id": message.tool_call_id, "response": message.content}]
    parts: list[dict[str, Any]] = []
    if message.content:
        parts.append({"type": "text", "content": message.content})
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    return parts


def _reason(finish_reason: str | None) -> str:
    """As the conventions write it."""
    return "tool_call" if finish_reason == "tool_calls" else finish_reason or ""


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
