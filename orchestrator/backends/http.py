"""HTTP to endpoints: one pool of connections, and every failure turned into a typed error.

Nothing is retried here, because Temporal retries steps; except once, at once and unseen,
when a pooled connection turns out to have died while it was idle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TypeVar, cast

import httpx
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.observed import Call, ConnectionWatch
from orchestrator.context import current_step
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnreachableError,
    ConfigurationError,
    MalformedResponseError,
    Recovery,
    StreamInterruptedError,
)

DEFAULT_TIMEOUT = timedelta(seconds=60)
"""For a whole request, when the caller names none and no step runs that has one."""

CONNECT_TIMEOUT = timedelta(seconds=5)
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A larger answer is not read: the worker's memory is shared by all of its steps."""

_MAX_ERROR_BODY_BYTES = 64 * 1024

ModelT = TypeVar("ModelT", bound=BaseModel)
_json_value: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def new_client() -> httpx.AsyncClient:
    """A client for all endpoints of a region. It follows no redirects: credentials stay put."""
    return httpx.AsyncClient(
        follow_redirects=False,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT.total_seconds()),
        limits=httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=60),
        headers={"User-Agent": "edgeward"},
    )


@dataclass(frozen=True)
class Body:
    """A whole answer."""

    status: int
    content_type: str
    content: bytes


class Deadline:
    """When a request has to be over: by its timeout, and before the step's own.

    Bounds each wait, so that a stream can be handed on in between.
    """

    def __init__(self, timeout: timedelta | None) -> None:
        if timeout is not None and timeout <= timedelta(0):
            raise ConfigurationError(f"timeout={timeout} is not longer than nothing; give it more")
        self.timeout = _within_the_step(timeout)
        self._at = asyncio.get_running_loop().time() + self.timeout.total_seconds()

    def wait(self) -> asyncio.Timeout:
        """Bounds what is awaited in this block; no block may hold a ``yield``."""
        return asyncio.timeout_at(self._at)


def _within_the_step(timeout: timedelta | None) -> timedelta:
    """The timeout, or what is left of the running step's own if that is less.

    A little less of it, so that the step fails with an error that names the endpoint, before
    Temporal gives up on it with one that cannot.
    """
    step = current_step()
    if step is None or step.ends_at is None:
        return DEFAULT_TIMEOUT if timeout is None else timeout
    left = max(step.ends_at - time.monotonic(), 0.01)
    left = timedelta(seconds=left - min(0.5, left * 0.05))
    return left if timeout is None else min(timeout, left)


class HttpEndpoint:
    """Requests to one offer's endpoint."""

    def __init__(self, endpoint: Endpoint, client: httpx.AsyncClient) -> None:
        self.endpoint = endpoint
        self._client = client
        if not endpoint.offer.endpoint.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"{endpoint}: it is spoken to over HTTP, but its endpoint is {endpoint.shown}; "
                "write one that starts with http:// or https://"
            )
        try:
            self._base = httpx.URL(endpoint.offer.endpoint)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"{endpoint}: its endpoint is no URL ({error}); correct it") from None

    def url(self, path: str = "", *, root: bool = False) -> httpx.URL:
        """The address of a path below the endpoint, or below the server's root; the query is kept."""
        base = "" if root else self._base.path.rstrip("/")
        return self._base.copy_with(path=(base + path) or "/")

    def headers(self) -> dict[str, str]:
        """The headers that carry the offer's secret."""
        secret = self.endpoint.secret()
        return {} if secret is None else {"Authorization": f"Bearer {secret}"}

    async def request(
        self,
        method: str,
        url: httpx.URL,
        deadline: Deadline,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        also: Collection[int] = (),
        call: Call | None = None,
    ) -> Body:
        """Sends a request and reads the whole answer.

        Args:
            method: The HTTP method.
            url: Where to, from ``url``.
            deadline: When it has to be over.
            json: The body, if there is one.
            headers: Further headers.
            repeatable: Whether the request may be sent again when a pooled connection died under it.
            also: HTTP statuses that are answers too, for the caller to read.
            call: What the request belongs to; it is told of connections and repetitions.

        Raises:
            BackendError: It failed; the class says how.
        """
        async with self.open(
            method, url, deadline, json=json, headers=headers, repeatable=repeatable, also=also, call=call
        ) as response:
            with self.mapped(deadline):
                async with deadline.wait():
                    content = await self._read(response, MAX_BODY_BYTES)
            return Body(response.status_code, response.headers.get("content-type", ""), content)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: httpx.URL,
        deadline: Deadline,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
        also: Collection[int] = (),
        call: Call | None = None,
    ) -> AsyncGenerator[httpx.Response]:
        """Sends a request; the block reads the successful answer's body.

        Raises:
            BackendError: It failed; the class says how.
        """
        with self.mapped(deadline):
            async with deadline.wait():
                response = await self._send(method, url, json, headers or {}, repeatable, call)
        try:
            if not response.is_success and response.status_code not in also:
                raise await self._failure(response, deadline)
            yield response
        finally:
            await response.aclose()

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        json: object,
        headers: Mapping[str, str],
        repeatable: bool,
        call: Call | None,
    ) -> httpx.Response:
        traced = call.headers() if call is not None else {}
        while True:
            watch = ConnectionWatch(call)
            request = self._client.build_request(
                method,
                url,
                json=json,
                headers={**headers, **traced, **self.headers()},
                extensions={"trace": watch.trace},
            )
            try:
                return await self._client.send(request, stream=True)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if watch.opened or watch.answered or not repeatable:
                    raise
            # Each round drops one dead connection, so that a restarted endpoint costs no step.
            if call is not None:
                call.sent_again()

    @contextmanager
    def mapped(self, deadline: Deadline, *, streaming: bool = False) -> Generator[None]:
        """Turns the HTTP client's errors in this block into ours.

        They are raised without their cause: each would put three tracebacks of the client's
        inner layers into a run's history and say no more than the message does.
        """
        try:
            yield
        except (TimeoutError, httpx.TransportError, httpx.DecodingError) as error:
            raise self._typed(error, deadline, streaming) from None

    def _typed(self, error: Exception, deadline: Deadline, streaming: bool) -> BackendError:
        match error:
            case httpx.PoolTimeout():
                return self.error(BackendOverloadedError, "all of the worker's connections are in use")
            case httpx.ConnectTimeout():
                seconds = CONNECT_TIMEOUT.total_seconds()
                return self.error(BackendUnreachableError, f"no connection within {seconds:g} s")
            case TimeoutError() | httpx.TimeoutException():
                seconds = deadline.timeout.total_seconds()
                return self.error(BackendTimeoutError, f"no whole answer within {seconds:g} s")
            case httpx.ConnectError():
                return self.error(BackendUnreachableError, f"no connection: {root_cause(error)}")
            case httpx.DecodingError():
                return self.error(MalformedResponseError, "the answer's compression cannot be undone")
            case _ if streaming:
                return self.error(StreamInterruptedError, f"the stream was cut: {root_cause(error)}")
            case _:
                return self.error(BackendUnreachableError, f"the connection broke: {root_cause(error)}")

    def error(
        self,
        kind: type[BackendError],
        message: str,
        *,
        recovery: Recovery | None = None,
        retry_after: timedelta | None = None,
        status: int | None = None,
    ) -> BackendError:
        """An error of this endpoint."""
        return kind(
            f"{self.endpoint.offer.key}: {message}",
            endpoint=self.endpoint.shown,
            region=self.endpoint.region,
            recovery=recovery,
            retry_after=retry_after,
            status=status,
        )

    def parsed(self, model: type[ModelT], content: bytes) -> ModelT:
        """The answer as a value of this class.

        Raises:
            MalformedResponseError: It is empty, no JSON, or lacks what the class needs.
        """
        if not content.strip():
            raise self.error(MalformedResponseError, "the answer is empty")
        try:
            return model.model_validate_json(content)
        except ValidationError as error:
            # Without its cause: pydantic quotes what it read.
            raise self.error(MalformedResponseError, f"the answer cannot be read: {where(error)}") from None

    def json(self, content: bytes) -> JsonValue:
        """The answer as plain JSON values.

        Raises:
            MalformedResponseError: It is empty or no JSON.
        """
        if not content.strip():
            raise self.error(MalformedResponseError, "the answer is empty")
        try:
            return _json_value.validate_json(content)
        except ValidationError as error:
            raise self.error(MalformedResponseError, f"the answer cannot be read: {where(error)}") from None

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > limit:
                raise self.error(
                    MalformedResponseError,
                    f"the answer is larger than {limit // 2**20} MiB",
                    recovery=Recovery.FINAL,
                )
            chunks.append(chunk)
        return b"".join(chunks)

    async def _failure(self, response: httpx.Response, deadline: Deadline) -> BackendError:
        try:
            async with deadline.wait():
                content = await self._read(response, _MAX_ERROR_BODY_BYTES)
        except (httpx.HTTPError, TimeoutError, MalformedResponseError):
            content = b""  # the status says enough
        return self.failure(response.status_code, retry_after(response.headers), reason(content))

    def failure(self, status: int, wait: timedelta | None = None, why: str = "") -> BackendError:
        """The error for an HTTP status that is no success."""
        kind, remedy = failure_kind(status)
        because = f" ({why})" if why else ""
        return self.error(kind, f"HTTP {status}{because}{remedy}", retry_after=wait, status=status)


def root_cause(error: BaseException) -> str:
    """What the operating system said, if it is at the bottom; else what the client says."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.errno:
            return inner.strerror or str(inner)
        if isinstance(inner, BaseExceptionGroup):
            inner = cast("BaseExceptionGroup[BaseException]", inner).exceptions[0]
        else:
            inner = inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__


def failure_kind(status: int) -> tuple[type[BackendError], str]:
    """The error for an HTTP status that is no success, and what to do about it as a message's end."""
    if status in {429, 503}:
        return BackendOverloadedError, ""
    if status in {408, 504}:
        return BackendTimeoutError, ""
    if status >= 500:
        return BackendFaultError, ""
    if status in {401, 403}:
        return BackendRefusedError, "; check the secret that its secret_env or secret_file names"
    if status == 404:
        return BackendRefusedError, "; check the endpoint's path and the target in the topology"
    if status < 400:
        return BackendRefusedError, "; redirects are not followed, write the final address into the topology"
    return BackendRefusedError, ""


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """How long the endpoint asks to be left alone: ``Retry-After`` in seconds or as a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), 86_400))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    left = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return min(max(left, timedelta(0)), timedelta(days=1))


def reason(content: bytes) -> str:
    """The machine-readable part of an error's body; its prose may quote what the user wrote."""
    try:
        body = _json_value.validate_json(content)
    except ValidationError:
        return ""
    fields = body.get("error") if isinstance(body, dict) else None
    source = fields if isinstance(fields, dict) else body
    if not isinstance(source, dict):
        return ""
    words = [source.get(key) for key in ("type", "code", "param")]
    return ", ".join(word for word in words if isinstance(word, str) and 0 < len(word) <= 80)


def where(error: ValidationError) -> str:
    """The first thing wrong, without the value that was read."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return "it is no JSON"
    return f"{place or 'the whole'}: {first['type']}"


async def bounded(
    chunks: AsyncIterator[bytes], endpoint: HttpEndpoint, deadline: Deadline
) -> AsyncIterator[bytes]:
    """The chunks of a stream, each waited for until the deadline."""
    while True:
        with endpoint.mapped(deadline, streaming=True):
            async with deadline.wait():
                chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk
