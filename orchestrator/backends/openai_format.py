"""The OpenAI-compatible wire format: what is sent, and what is understood of what comes back.

Fields that an endpoint adds are ignored; of those it may leave out, only the ones without
which there is no answer are required. llama.cpp, vLLM and NVIDIA NIM differ in the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from orchestrator.backends.messages import Completion, Message, ToolCall, ToolDescription, Usage
from orchestrator.backends.shapes import Schema, json_schema

ToolChoice = Literal["auto", "none", "required"] | str
"""``auto``, ``none``, ``required`` or the name of the tool that has to be called."""


class ChatOptions(TypedDict, total=False):
    """Options of ``chat``, ``stream`` and ``chat_streaming``; what is left out is the endpoint's default."""

    max_tokens: int | None
    """How many tokens it may write."""

    temperature: float | None
    """0 answers the same question the same way, as far as the endpoint can."""

    seed: int | None
    stop: str | Sequence[str] | None
    """Texts at which the answer ends."""

    schema: Schema | None
    """The answer has to be JSON of this shape; it is checked, and ``Completion.parsed`` holds it."""

    schema_name: str | None
    """What the endpoint is told the shape is called; default: the class's name."""

    tools: Sequence[ToolDescription]
    """What the model may call."""

    tool_choice: ToolChoice | None
    timeout: timedelta | None
    """For the whole answer; default: until the step's own timeout, or 60 s outside of a step."""


@dataclass(frozen=True)
class ChatRequest:
    """The options as one value, with their defaults."""

    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    schema: Schema | None = None
    schema_name: str | None = None
    tools: Sequence[ToolDescription] = ()
    tool_choice: ToolChoice | None = None
    timeout: timedelta | None = None

    def body(self, model: str, messages: Sequence[Message], *, stream: bool) -> dict[str, Any]:
        """The request's JSON."""
        body: dict[str, Any] = {"model": model, "messages": [_message(message) for message in messages]}
        options = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": self.stop if self.stop is None or isinstance(self.stop, str) else list(self.stop),
        }
        body.update({key: value for key, value in options.items() if value is not None})
        if self.schema is not None:
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": self.shape_name, "schema": json_schema(self.schema)},
            }
        if self.tools:
            body["tools"] = [_tool(tool) for tool in self.tools]
            if self.tool_choice is not None:
                body["tool_choice"] = _tool_choice(self.tool_choice)
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        return body

    @property
    def shape_name(self) -> str:
        """What the schema is called in the request and in errors."""
        if self.schema_name:
            return self.schema_name
        return self.schema.__name__ if isinstance(self.schema, type) else "answer"


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for call in message.tool_calls
        ]
        told["content"] = message.content or None
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        told["name"] = message.name
    return told


def _tool(tool: ToolDescription) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _tool_choice(choice: ToolChoice) -> object:
    if choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class _Function(_Read):
    name: str | None = None
    arguments: str | dict[str, JsonValue] | None = None
    """llama.cpp builds differ: a string of JSON, as specified, or the object itself."""


class _Call(_Read):
    index: int | None = None
    id: str | None = None
    function: _Function = Field(default_factory=_Function)


class _PromptTokens(_Read):
    cached_tokens: int | None = None


class TokenUsage(_Read):
    """What an endpoint says that a request used."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptTokens | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Of those that were read, what the endpoint had kept from an earlier request."""
        return self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None

    def value(self) -> Usage:
        """As users see it."""
        return Usage(prompt_tokens=self.prompt_tokens or 0, completion_tokens=self.completion_tokens or 0)


class _Answer(_Read):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(_Read):
    message: _Answer
    finish_reason: str | None = None


class ChatResponse(_Read):
    """The answer to a request without streaming."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: TokenUsage | None = None

    def completion(self) -> Completion:
        """As users see it.

        Raises:
            ArgumentsError: A tool call's arguments are no JSON object.
        """
        choice = self.choices[0]
        return Completion(
            text=choice.message.content or "",
            tool_calls=tuple(
                tool_call(
                    call.id or f"call-{number}", call.function.name or "", call.function.arguments or ""
                )
                for number, call in enumerate(choice.message.tool_calls or ())
            ),
            finish_reason=choice.finish_reason,
            usage=self.usage.value() if self.usage else None,
            model=self.model or "",
            id=self.id or "",
        )


class _Delta(_Read):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _ChunkChoice(_Read):
    delta: _Delta = Field(default_factory=_Delta)
    finish_reason: str | None = None


class _StreamError(_Read):
    code: int | str | None = None
    type: str | None = None


class ChatChunk(_Read):
    """One event of a stream; the last ones have no choice, only the usage."""

    id: str | None = None
    model: str | None = None
    choices: list[_ChunkChoice] | None = None
    usage: TokenUsage | None = None
    error: _StreamError | None = None


class _Embedding(_Read):
    index: int
    embedding: list[float] = Field(min_length=1)


class EmbeddingResponse(_Read):
    """The answer to a request for embeddings."""

    data: list[_Embedding]
    model: str | None = None
    usage: TokenUsage | None = None


class _Model(_Read):
    id: str


class ModelList(_Read):
    """What an endpoint serves."""

    data: list[_Model]


class ArgumentsError(ValueError):
    """A model's call of a tool is not usable: its arguments are no JSON object, or it names none."""


_arguments: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


def tool_call(identity: str, name: str, arguments: str | dict[str, JsonValue]) -> ToolCall:
    """A model's call of a tool.

    Raises:
        ArgumentsError: Its arguments are no JSON object, or it names no tool.
    """
    if not name:
        raise ArgumentsError("a call names no tool")
    if isinstance(arguments, str):
        try:
            arguments = _arguments.validate_json(arguments) if arguments.strip() else {}
        except ValidationError:
            raise ArgumentsError(f"the arguments of {name} are no JSON object") from None
    return ToolCall(id=identity, name=name, arguments=arguments)


@dataclass
class _Assembled:
    identity: str
    name: str = ""
    arguments: str = ""


@dataclass
class CallAssembly:
    """Puts tool calls together that arrive in parts."""

    _calls: dict[int, _Assembled] = field(default_factory=dict[int, _Assembled])

    def add(self, parts: Sequence[_Call]) -> None:
        """The next parts; each says by its index which call it continues."""
        for position, part in enumerate(parts):
            index = position if part.index is None else part.index
            call = self._calls.setdefault(index, _Assembled(identity=f"call-{index}"))
            call.identity = part.id or call.identity
            call.name += part.function.name or ""
            given = part.function.arguments
            call.arguments += json.dumps(given) if isinstance(given, dict) else given or ""

    def calls(self) -> tuple[ToolCall, ...]:
        """The whole calls.

        Raises:
            ArgumentsError: The arguments of one are no JSON object.
        """
        return tuple(
            tool_call(call.identity, call.name, call.arguments) for _, call in sorted(self._calls.items())
        )
