"""Tools of an MCP server over streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from datetime import timedelta
from typing import NoReturn, cast

import mcp.types
from mcp.client import Client

from orchestrator.backends import contents
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import Deadline
from orchestrator.backends.mcp_session import McpServer, mcp_error
from orchestrator.backends.messages import ToolDescription
from orchestrator.backends.observed import Call
from orchestrator.backends.operations import minor_operation, tool_operation
from orchestrator.backends.tools import MAX_REPORTED, ToolResult, as_text, idempotency_key, plain
from orchestrator.errors import BackendRefusedError, ConfigurationError, ToolError

IDEMPOTENCY_META = "edgeward/idempotency-key"
"""Key of a call's ``_meta``."""

_MAX_PAGES = 50


class McpTool:
    """A tool of an MCP server: the one that the server calls by the offer's ``target``, else its name."""

    def __init__(self, endpoint: Endpoint, server: McpServer) -> None:
        if not endpoint.offer.endpoint.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{endpoint}: MCP is spoken over streamable HTTP, but its endpoint is {endpoint.shown}; "
                "write one that starts with http:// or https://"
            )
        self._endpoint = endpoint
        self._server = server
        self._known = False
        self._call = tool_operation(endpoint)
        self._describe = minor_operation(endpoint, "tool", "describe")

    async def describe(self, *, timeout: timedelta | None = None) -> ToolDescription:
        """See ``Tool.describe``."""
        deadline = Deadline(timeout)
        with Call(self._describe) as call:
            found = await self._server.use(self._endpoint, self._found, deadline, call, repeatable=True)
        return ToolDescription(
            name=self._endpoint.offer.name, description=found.description or "", parameters=found.input_schema
        )

    async def call(self, arguments: Mapping[str, object], *, timeout: timedelta | None = None) -> ToolResult:
        """See ``Tool.call``."""
        given = plain(arguments)
        key = idempotency_key()
        meta = cast("mcp.types.RequestParamsMeta", {IDEMPOTENCY_META: key}) if key else None

        async def work(client: Client) -> mcp.types.CallToolResult:
            return await client.call_tool(self._endpoint.target, given, meta=meta)

        deadline = Deadline(timeout)
        with Call(self._call) as call:
            contents.tell_arguments(call, given)
            result = await self._server.use(self._endpoint, work, deadline, call, repeatable=key is not None)
            text = _text(result)
            if result.is_error:
                await self._refuse(text, deadline, call)
            answer = ToolResult(
                text=text or as_text(result.structured_content), data=result.structured_content
            )
            contents.tell_result(call, answer.text)
        self._known = True
        return answer

    async def _refuse(self, reported: str, deadline: Deadline, call: Call) -> NoReturn:
        if not self._known:
            # Servers report a tool that they do not have in the same way.
            await self._server.use(self._endpoint, self._found, deadline, call, repeatable=True)
        raise ToolError(
            f"{self._endpoint.offer.key}: the tool reports an error",
            endpoint=self._endpoint.shown,
            region=self._endpoint.region,
            reported=reported[:MAX_REPORTED],
        )

    async def _found(self, client: Client) -> mcp.types.Tool:
        known: list[str] = []
        async for tool in _tools(client):
            if tool.name == self._endpoint.target:
                self._known = True
                return tool
            known.append(tool.name)
        raise mcp_error(
            self._endpoint,
            BackendRefusedError,
            f"the server has no tool {self._endpoint.target!r} (it has {', '.join(known) or 'none'}); "
            "name the right one with target in the topology",
        )


async def _tools(client: Client) -> AsyncGenerator[mcp.types.Tool]:
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if cursor is None:
            return


def _text(result: mcp.types.CallToolResult) -> str:
    return "\n".join(
        block.text if isinstance(block, mcp.types.TextContent) else f"[{block.type}]"
        for block in result.content
    )
