"""What is said to a model and what comes back. Frozen values that a step may take and return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

Role = Literal["system", "user", "assistant", "tool"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ToolCall(_Value):
    """A tool that the model wants called."""

    id: str
    """The model's name for this call; the answer repeats it (``Message.tool``)."""

    name: str
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


class ToolDescription(_Value):
    """What a tool is for and what it takes: what a model needs in order to choose it."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    """JSON schema of the arguments."""


class Message(_Value):
    """One message of a conversation; made by ``system``, ``user``, ``assistant`` or ``tool``."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Only of the assistant: what it wanted called."""

    tool_call_id: str | None = None
    """Only of a tool: the call that this answers."""

    name: str | None = None
    """Whose message it is, among several of one role."""

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a tool's message needs the tool_call_id that it answers")
        if self.role != "tool" and self.tool_call_id:
            raise ValueError("only a tool's message has a tool_call_id")
        if self.role != "assistant" and self.tool_calls:
            raise ValueError("only the assistant's message has tool_calls")
        return self

    @classmethod
    def system(cls, content: str) -> Self:
        """What the model is to be and do."""
        return cls(role="system", content=content)

    @classmethod
    def user(cls, content: str, *, name: str | None = None) -> Self:
        """What the user says."""
        return cls(role="user", content=content, name=name)

    @classmethod
    def assistant(cls, content: str = "", *, tool_calls: Sequence[ToolCall] = ()) -> Self:
        """What the model said before."""
        return cls(role="assistant", content=content, tool_calls=tuple(tool_calls))

    @classmethod
    def tool(cls, content: str, *, tool_call_id: str) -> Self:
        """What a tool answered to a call of the model."""
        return cls(role="tool", content=content, tool_call_id=tool_call_id)


class Usage(_Value):
    """Tokens that a request read and wrote."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Both together."""
        return self.prompt_tokens + self.completion_tokens


class Completion(_Value):
    """A model's whole answer."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """``stop``, ``length`` (cut at ``max_tokens``), ``tool_calls`` or the endpoint's own word."""

    usage: Usage | None = None
    model: str = ""
    """What the endpoint says has answered."""

    id: str = ""
    parsed: Any = Field(default=None, exclude=True)
    """With ``schema``: the answer as an instance of the class given, or as plain JSON values for
    a schema given as a mapping. Not part of what a step returns; return it by itself instead."""

    @property
    def message(self) -> Message:
        """The answer as a message, to go on with the conversation."""
        return Message.assistant(self.text, tool_calls=self.tool_calls)


class Piece(_Value):
    """A piece of an answer that is being streamed."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    """Only in the last piece: the whole calls."""

    finish_reason: str | None = None
    """Only in the last piece, and always there."""

    usage: Usage | None = None
    model: str = ""
    id: str = ""

    @property
    def last(self) -> bool:
        """Whether the answer is complete with it."""
        return self.finish_reason is not None
