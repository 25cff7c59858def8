"""Tools of an MCP server over streamable HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import httpx2
import mcp.types
from mcp.client import Client, InputRequiredRoundsExceededError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import CONNECT_TIMEOUT, Deadline, failure_kind, retry_after, root_cause
from orchestrator.backends.messages import ToolDescription
from orchestrator.backends.tools import MAX_REPORTED, ToolResult, as_text, idempotency_key, plain
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnreachableError,
    ConfigurationError,
    MalformedResponseError,
    StreamInterruptedError,
    ToolError,
)

ResultT = TypeVar("ResultT")

IDEMPOTENCY_META = "edgeward/idempotency-key"
"""Key of a call's ``_meta``."""

_MAX_PAGES = 50

# It logs answers that it cannot read with what they hold; here they become errors that do not.
logging.getLogger("mcp.client.streamable_http").setLevel(logging.CRITICAL)


@dataclass
class _Answer:
    """What HTTP said to a call; the protocol's client keeps only that it was no success."""

    status: int | None = None
    retry_after: timedelta | None = None


_answer: ContextVar[_Answer | None] = ContextVar("edgeward_mcp_answer", default=None)


class McpServer:
    """A session with one MCP server, kept open and opened anew when it was lost.

    Belongs to one event loop. The session lives in a task of its own, because it has to be
    closed by the task that opened it, and steps come and go.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session: _Session | None = None

    async def use(
        self,
        caller: Endpoint,
        work: Callable[[Client], Awaitable[ResultT]],
        deadline: Deadline,
        *,
        repeatable: bool,
    ) -> ResultT:
        """Does something in the session.

        Args:
            caller: The tool that it is for, as errors name it.
            work: What to do.
            deadline: When it has to be over.
            repeatable: Whether it may be done again if a session that was open before breaks under it.

        Raises:
            BackendError: It failed; the class says how.
        """
        self.endpoint.secret()  # a missing one is said here, where it can be typed
        kept = self._session is not None and self._session.alive
        try:
            return await self._use(caller, work, deadline)
        except (_SessionLostError, BackendUnreachableError, StreamInterruptedError) as error:
            safe = repeatable or isinstance(error, _SessionLostError)
            if not (kept and safe):
                raise
        return await self._use(caller, work, deadline)

    async def aclose(self) -> None:
        """Ends the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _use(
        self, caller: Endpoint, work: Callable[[Client], Awaitable[ResultT]], deadline: Deadline
    ) -> ResultT:
        if self._session is None or not self._session.alive:
            self._session = _Session(self.endpoint)
        session = self._session
        answer = _Answer()
        token = _answer.set(answer)
        try:
            async with deadline.wait():
                client = await session.client()
                return await work(client)
        except TimeoutError:
            if not session.opened:
                await self._drop(session)
            seconds = deadline.timeout.total_seconds()
            raise _error(caller, BackendTimeoutError, f"no answer within {seconds:g} s") from None
        except (MCPError, httpx2.HTTPError, OSError, BaseExceptionGroup) as error:
            raise await self._failure(caller, error, session, answer) from None
        except InputRequiredRoundsExceededError:
            raise _error(
                caller, BackendRefusedError, "the tool asks its user for input; a step has none"
            ) from None
        except (ValidationError, RuntimeError) as error:
            raise _error(
                caller, MalformedResponseError, f"the answer breaks the protocol ({type(error).__name__})"
            ) from None
        finally:
            _answer.reset(token)

    async def _drop(self, session: _Session) -> None:
        if self._session is session:
            self._session = None
        await session.close()

    async def _failure(
        self, caller: Endpoint, error: BaseException, session: _Session, answer: _Answer
    ) -> BackendError:
        if not session.opened:
            answer = session.answer
        first = _innermost(error)
        if isinstance(first, MCPError):
            typed = await self._typed(caller, first, session, answer)
        else:
            typed = _broken(caller, first)
        if not session.opened or not isinstance(first, MCPError):
            await self._drop(session)
        return typed

    async def _typed(
        self, caller: Endpoint, error: MCPError, session: _Session, answer: _Answer
    ) -> BackendError:
        if answer.status is not None and answer.status >= 300:
            if answer.status == 404 and session.opened:
                await self._drop(session)  # the server forgot the session: it did not run the call
                return _error(caller, _SessionLostError, "the session ended")
            kind, remedy = failure_kind(answer.status)
            return _error(
                caller, kind, f"HTTP {answer.status}{remedy}", status=answer.status, wait=answer.retry_after
            )
        if error.code == mcp.types.CONNECTION_CLOSED:
            cause = await session.failure()
            await self._drop(session)
            if cause is not None:
                return _broken(caller, _innermost(cause))
            return _error(caller, StreamInterruptedError, "the connection closed before the answer")
        if error.code == mcp.types.INVALID_PARAMS:
            return _error(caller, BackendRefusedError, "the server does not know the tool or its arguments")
        if error.code in {mcp.types.METHOD_NOT_FOUND, mcp.types.INVALID_REQUEST}:
            return _error(caller, BackendRefusedError, f"it is no MCP server for tools (code {error.code})")
        if error.code == mcp.types.PARSE_ERROR:
            return _error(caller, MalformedResponseError, "the answer cannot be read: it is no JSON-RPC")
        return _error(caller, BackendFaultError, f"the server failed (code {error.code})")


class _SessionLostError(StreamInterruptedError):
    """The server forgot the session before it looked at the call."""


class _Session:
    """One session and the task in which it lives."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._end = asyncio.Event()
        self.answer = _Answer()
        """What HTTP said while the session was opened."""

        self._task = asyncio.create_task(self._live(), name=f"mcp session {endpoint.shown}")

    @property
    def alive(self) -> bool:
        return not self._task.done()

    @property
    def opened(self) -> bool:
        return self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None

    async def client(self) -> Client:
        """The open session, once it is. Whoever waits may go away without ending it for others."""
        return await asyncio.shield(self._ready)

    async def failure(self) -> BaseException | None:
        """Why the session ended, if it did by itself."""
        with suppress(TimeoutError):
            # The transport's task ends a moment after its callers were told.
            await asyncio.wait_for(asyncio.shield(asyncio.wait([self._task])), 1)
        if not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def close(self) -> None:
        self._end.set()
        if not self.opened:
            self._task.cancel()
        await asyncio.wait([self._task], timeout=CONNECT_TIMEOUT.total_seconds())
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.exception()  # seen: it was told to whoever called, or nobody is left to tell

    async def _live(self) -> None:
        _answer.set(self.answer)
        try:
            async with (
                httpx2.AsyncClient(
                    auth=_Bearer(self._endpoint),
                    event_hooks={"response": [_note]},
                    follow_redirects=False,
                    timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT.total_seconds()),
                ) as http,
                Client(
                    streamable_http_client(self._endpoint.offer.endpoint, http_client=http), cache=None
                ) as client,
            ):
                self._ready.set_result(client)
                await self._end.wait()
        except BaseException as error:
            if not self._ready.done():
                # Told through what the callers wait for, so the task itself ends without it.
                if isinstance(error, asyncio.CancelledError):
                    self._ready.cancel()
                    raise
                self._ready.set_exception(error)
                self._ready.exception()
                return
            raise


class _Bearer(httpx2.Auth):
    """Puts the offer's secret, as it is now, on each request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        secret = self._endpoint.secret()
        if secret is not None:
            request.headers["Authorization"] = f"Bearer {secret}"
        yield request


async def _note(response: httpx2.Response) -> None:
    """Keeps what HTTP said for the call that this request belongs to."""
    answer = _answer.get()
    if answer is not None and not response.is_success:
        answer.status = response.status_code
        answer.retry_after = retry_after(response.headers)


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

    async def describe(self, *, timeout: timedelta | None = None) -> ToolDescription:
        """See ``Tool.describe``."""
        deadline = Deadline(timeout)
        found = await self._server.use(self._endpoint, self._found, deadline, repeatable=True)
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
        result = await self._server.use(self._endpoint, work, deadline, repeatable=key is not None)
        text = _text(result)
        if result.is_error:
            if not self._known:
                # Servers report a tool that they do not have in the same way.
                await self._server.use(self._endpoint, self._found, deadline, repeatable=True)
            raise ToolError(
                f"{self._endpoint.offer.key}: the tool reports an error",
                endpoint=self._endpoint.shown,
                region=self._endpoint.region,
                reported=text[:MAX_REPORTED],
            )
        self._known = True
        data = result.structured_content
        return ToolResult(text=text or as_text(data), data=data)

    async def _found(self, client: Client) -> mcp.types.Tool:
        known: list[str] = []
        async for tool in _tools(client):
            if tool.name == self._endpoint.target:
                self._known = True
                return tool
            known.append(tool.name)
        raise _error(
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


def _innermost(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that the client's tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _broken(caller: Endpoint, error: BaseException) -> BackendError:
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return _error(caller, BackendTimeoutError, "no answer in time")
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
        return _error(caller, StreamInterruptedError, f"the connection broke: {root_cause(error)}")
    return _error(caller, BackendUnreachableError, f"no connection: {root_cause(error)}")


def _error(
    caller: Endpoint,
    kind: type[BackendError],
    message: str,
    *,
    status: int | None = None,
    wait: timedelta | None = None,
) -> BackendError:
    return kind(
        f"{caller.offer.key}: {message}",
        endpoint=caller.shown,
        region=caller.region,
        status=status,
        retry_after=wait,
    )
