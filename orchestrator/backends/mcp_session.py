"""Sessions with MCP servers over streamable HTTP, and what can go wrong with them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator
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
from opentelemetry import trace
from pydantic import ValidationError

from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import CONNECT_TIMEOUT, Deadline, failure_kind, retry_after, root_cause
from orchestrator.backends.observed import Call, ConnectionWatch
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnreachableError,
    MalformedResponseError,
    StreamInterruptedError,
)

ResultT = TypeVar("ResultT")

# It logs answers that it cannot read with what they hold; here they become errors that do not.
logging.getLogger("mcp.client.streamable_http").setLevel(logging.CRITICAL)


@dataclass
class _Answer:
    """What HTTP said to a call; the protocol's client keeps only that it was no success."""

    call: Call | None = None
    """None while the session is opened: that belongs to nobody's call."""

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
        call: Call,
        *,
        repeatable: bool,
    ) -> ResultT:
        """Does something in the session.

        Args:
            caller: The tool that it is for, as errors name it.
            work: What to do.
            deadline: When it has to be over.
            call: What it belongs to; it is told of connections and repetitions.
            repeatable: Whether it may be done again if a session that was open before breaks under it.

        Raises:
            BackendError: It failed; the class says how.
        """
        self.endpoint.secret()  # a missing one is said here, where it can be typed
        kept = self._session is not None and self._session.alive
        try:
            return await self._use(caller, work, deadline, call)
        except (_SessionLostError, BackendUnreachableError, StreamInterruptedError) as error:
            safe = repeatable or isinstance(error, _SessionLostError)
            if not (kept and safe):
                raise
        call.sent_again()
        return await self._use(caller, work, deadline, call)

    async def aclose(self) -> None:
        """Ends the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _use(
        self,
        caller: Endpoint,
        work: Callable[[Client], Awaitable[ResultT]],
        deadline: Deadline,
        call: Call,
    ) -> ResultT:
        if self._session is None or not self._session.alive:
            self._session = _Session(self.endpoint)
        session = self._session
        answer = _Answer(call)
        token = _answer.set(answer)
        try:
            async with deadline.wait():
                client = await self._opened(session, call)
                # The protocol's client passes on the span that is current here.
                with trace.use_span(call.span, record_exception=False, set_status_on_exception=False):
                    return await work(client)
        except TimeoutError:
            if not session.opened:
                await self._drop(session)
            seconds = deadline.timeout.total_seconds()
            raise mcp_error(caller, BackendTimeoutError, f"no answer within {seconds:g} s") from None
        except (MCPError, httpx2.HTTPError, OSError, BaseExceptionGroup) as error:
            raise await self._failure(caller, error, session, answer) from None
        except InputRequiredRoundsExceededError:
            raise mcp_error(
                caller, BackendRefusedError, "the tool asks its user for input; a step has none"
            ) from None
        except (ValidationError, RuntimeError) as error:
            raise mcp_error(
                caller, MalformedResponseError, f"the answer breaks the protocol ({type(error).__name__})"
            ) from None
        finally:
            _answer.reset(token)

    async def _opened(self, session: _Session, call: Call) -> Client:
        if session.opened:
            return await session.client()
        began = time.monotonic()
        try:
            return await session.client()
        finally:
            call.connected(time.monotonic() - began)

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
                return mcp_error(caller, _SessionLostError, "the session ended")
            kind, remedy = failure_kind(answer.status)
            return mcp_error(
                caller, kind, f"HTTP {answer.status}{remedy}", status=answer.status, wait=answer.retry_after
            )
        if error.code == mcp.types.CONNECTION_CLOSED:
            cause = await session.failure()
            await self._drop(session)
            if cause is not None:
                return _broken(caller, _innermost(cause))
            return mcp_error(caller, StreamInterruptedError, "the connection closed before the answer")
        if error.code == mcp.types.INVALID_PARAMS:
            return mcp_error(
                caller, BackendRefusedError, "the server does not know the tool or its arguments"
            )
        if error.code in {mcp.types.METHOD_NOT_FOUND, mcp.types.INVALID_REQUEST}:
            return mcp_error(
                caller, BackendRefusedError, f"it is no MCP server for tools (code {error.code})"
            )
        if error.code == mcp.types.PARSE_ERROR:
            return mcp_error(caller, MalformedResponseError, "the answer cannot be read: it is no JSON-RPC")
        return mcp_error(caller, BackendFaultError, f"the server failed (code {error.code})")


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
                    event_hooks={"request": [_watch], "response": [_note]},
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


async def _watch(request: httpx2.Request) -> None:
    """Carries the trace of the call that this request belongs to, and looks how it connects."""
    answer = _answer.get()
    if answer is not None and answer.call is not None:
        request.headers.update(answer.call.headers())
        request.extensions = {**request.extensions, "trace": ConnectionWatch(answer.call).trace}


async def _note(response: httpx2.Response) -> None:
    """Keeps what HTTP said for the call that this request belongs to."""
    answer = _answer.get()
    if answer is not None and not response.is_success:
        answer.status = response.status_code
        answer.retry_after = retry_after(response.headers)


def _innermost(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that the client's tasks wrap it in."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _broken(caller: Endpoint, error: BaseException) -> BackendError:
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return mcp_error(caller, BackendTimeoutError, "no answer in time")
    if isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError):
        return mcp_error(caller, StreamInterruptedError, f"the connection broke: {root_cause(error)}")
    return mcp_error(caller, BackendUnreachableError, f"no connection: {root_cause(error)}")


def mcp_error(
    caller: Endpoint,
    kind: type[BackendError],
    message: str,
    *,
    status: int | None = None,
    wait: timedelta | None = None,
) -> BackendError:
    """An error of this tool's server."""
    return kind(
        f"{caller.offer.key}: {message}",
        endpoint=caller.shown,
        region=caller.region,
        status=status,
        retry_after=wait,
    )
