"""Tools: the port, and those behind a plain HTTP endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from orchestrator.backends import contents
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import Body, Deadline, HttpEndpoint
from orchestrator.backends.messages import ToolDescription
from orchestrator.backends.observed import Call
from orchestrator.backends.operations import minor_operation, tool_operation
from orchestrator.context import current_step
from orchestrator.errors import ConfigurationError, MalformedResponseError, ToolError

IDEMPOTENCY_HEADER = "Idempotency-Key"
MAX_REPORTED = 4000
"""Characters of a tool's own error that are kept for the model."""

_TOOLS_OWN_ERRORS = frozenset({400, 409, 422})


class ToolResult(BaseModel):
    """What a tool answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """As a model reads it."""

    data: JsonValue = None
    """As a program reads it, if the tool gave more than text."""


class Tool(Protocol):
    """A tool that a region offers. Made by ``Backends.tool``."""

    async def describe(self, *, timeout: timedelta | None = None) -> ToolDescription:
        """What it is for and what it takes, as a model needs it; its name is the offer's.

        Raises:
            BackendError: The endpoint failed; the class says how.
        """
        ...

    async def call(self, arguments: Mapping[str, object], *, timeout: timedelta | None = None) -> ToolResult:
        """Runs it.

        The idempotency key of the step that runs is sent along, so that the tool can tell a
        repeated attempt from a new call. A step that calls a tool twice sends the same key
        twice: make each call a step of its own.

        Raises:
            ToolError: The tool ran and reported an error.
            BackendError: The endpoint failed in another way.
        """
        ...


class HttpTool:
    """A tool behind one URL: POST with the arguments as JSON runs it, GET describes it."""

    def __init__(self, endpoint: Endpoint, client: httpx.AsyncClient) -> None:
        self._http = HttpEndpoint(endpoint, client)
        self._call = tool_operation(endpoint)
        self._describe = minor_operation(endpoint, "tool", "describe")

    async def describe(self, *, timeout: timedelta | None = None) -> ToolDescription:
        """See ``Tool.describe``."""
        deadline = Deadline(timeout)
        with Call(self._describe) as call:
            body = await self._http.request("GET", self._http.url(), deadline, call=call)
        described = self._http.parsed(_Described, body.content)
        return ToolDescription(
            name=self._http.endpoint.offer.name,
            description=described.description,
            parameters=described.parameters,
        )

    async def call(self, arguments: Mapping[str, object], *, timeout: timedelta | None = None) -> ToolResult:
        """See ``Tool.call``."""
        key = idempotency_key()
        deadline = Deadline(timeout)
        given = plain(arguments)
        with Call(self._call) as call:
            contents.tell_arguments(call, given)
            body = await self._http.request(
                "POST",
                self._http.url(),
                deadline,
                json=given,
                headers={IDEMPOTENCY_HEADER: key} if key else None,
                repeatable=key is not None,
                also=_TOOLS_OWN_ERRORS,
                call=call,
            )
            if body.status in _TOOLS_OWN_ERRORS:
                raise ToolError(
                    f"{self._http.endpoint.offer.key}: the tool reports an error (HTTP {body.status})",
                    endpoint=self._http.endpoint.shown,
                    region=self._http.endpoint.region,
                    status=body.status,
                    reported=body.content.decode(errors="replace")[:MAX_REPORTED],
                )
            result = self._result(body)
            contents.tell_result(call, result.text)
        return result

    def _result(self, body: Body) -> ToolResult:
        if body.content_type.startswith("text/"):
            try:
                return ToolResult(text=body.content.decode())
            except UnicodeDecodeError:
                raise self._http.error(MalformedResponseError, "the answer is no UTF-8 text") from None
        data = self._http.json(body.content)
        return ToolResult(text=data if isinstance(data, str) else as_text(data), data=data)


class _Described(BaseModel):
    """A description as the endpoint gives it; what else it says is ignored."""

    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=lambda: {"type": "object", "properties": {}})


def idempotency_key() -> str | None:
    """The key of the step that runs, if one does."""
    step = current_step()
    return None if step is None else step.idempotency_key


def as_text(data: object) -> str:
    """JSON values as a model reads them."""
    return json.dumps(data, ensure_ascii=False)


def plain(arguments: Mapping[str, object]) -> dict[str, JsonValue]:
    """The arguments as JSON values.

    Raises:
        ConfigurationError: One of them cannot be written as JSON.
    """
    try:
        return json.loads(json.dumps(dict(arguments), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"call(arguments=...): cannot be written as JSON ({type(error).__name__})"
        ) from None
