"""Following the pieces of a run directly at its places, past the cell's server."""

from __future__ import annotations

import asyncio
import random
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import httpx
import structlog
from pydantic import ValidationError

from orchestrator.streams import QUIET, NumberedPiece, StreamPiece, UnreadablePieceWarning

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=50), timedelta(seconds=5)
"""Before a lost or refused stream is asked for again: it doubles until something arrives."""

SILENCE = 3 * QUIET
"""A stream that says nothing for so long, not even that it lives, is lost."""

CONNECT = timedelta(seconds=5)

REST = timedelta(seconds=3)
"""After the run: how long a place may take to connect, or to go on, with what has not arrived yet."""

KEPT = timedelta(seconds=60)
"""How long a connection rests in the pool; a new one costs the next stream a round trip. Workers keep
them a little longer, so that none is used that they are about to close."""

AHEAD = 1000
"""Pieces that wait for a slow reader; then the places wait."""


def stream_client() -> httpx.AsyncClient:
    """An HTTP client for as many streams at a time as there are runs."""
    return httpx.AsyncClient(
        limits=httpx.Limits(
            max_connections=None, max_keepalive_connections=100, keepalive_expiry=KEPT.total_seconds()
        )
    )


async def follow(
    http: httpx.AsyncClient, controls: Iterable[str], workflow_id: str, finished: Awaitable[Any]
) -> AsyncGenerator[StreamPiece]:
    """The pieces of a run as they come, from several places, until it has finished.

    The run need not exist yet. A stream that is cut goes on where it was. A place that cannot be
    reached gives no pieces; the result does not depend on them.

    Args:
        http: Its pool is used.
        controls: Control endpoints of the places.
        workflow_id: Of the run that the user started.
        finished: Done when the run is; its outcome is not looked at.

    Warns:
        UnreadablePieceWarning: A place sends something that is no piece.
    """
    arriving: asyncio.Queue[StreamPiece | BaseException | None] = asyncio.Queue(AHEAD)
    places = [_Place(http, control, workflow_id, arriving) for control in dict.fromkeys(controls)]
    following = asyncio.create_task(_until(finished, places, arriving))
    try:
        while (arrived := await arriving.get()) is not None:
            if isinstance(arrived, BaseException):
                raise arrived
            yield arrived
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _until(
    finished: Awaitable[Any],
    places: Sequence[_Place],
    arriving: asyncio.Queue[StreamPiece | BaseException | None],
) -> None:
    """Listens until the run has finished, then fetches what has not been delivered yet."""
    end: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(place.listen()) for place in places]
            await asyncio.wait([asyncio.ensure_future(finished)])
            for task in listening:
                task.cancel()
        async with asyncio.TaskGroup() as group:
            for place in places:
                group.create_task(place.rest())
    except ExceptionGroup as failed:  # nothing of the network: that is dealt with at the place
        end = failed.exceptions[0]
    await arriving.put(end)


class _Place:
    """The stream of one run at one place."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        control: str,
        workflow_id: str,
        arriving: asyncio.Queue[StreamPiece | BaseException | None],
    ) -> None:
        self._http = http
        self._url = f"{control.rstrip('/')}/runs/{quote(workflow_id, safe='')}/pieces"
        self._arriving = arriving
        self._latest = 0
        self._pause = FIRST_PAUSE

    async def listen(self) -> None:
        while True:
            try:
                await self._read(follow=True, connect=CONNECT, silence=SILENCE)
            except httpx.HTTPError as error:
                log.debug("stream.lost", url=self._url, error=type(error).__name__)
            # not all callers of a place that comes back at the same moment
            await asyncio.sleep(self._pause.total_seconds() * random.uniform(0.5, 1.0))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def rest(self) -> None:
        try:
            await self._read(follow=False, connect=REST, silence=REST)
        except httpx.HTTPError as error:
            log.debug("stream.incomplete", url=self._url, error=type(error).__name__)

    async def _read(self, *, follow: bool, connect: timedelta, silence: timedelta) -> None:
        parameters = {"after": str(self._latest), "follow": "true" if follow else "false"}
        timeout = httpx.Timeout(connect.total_seconds(), read=silence.total_seconds())
        async with self._http.stream("GET", self._url, params=parameters, timeout=timeout) as response:
            response.raise_for_status()
            async for line in _lines(response):
                self._pause = FIRST_PAUSE
                numbered = self._piece(line) if line else None
                if numbered is not None and numbered.number > self._latest:
                    await self._arriving.put(numbered.piece)
                    self._latest = numbered.number

    def _piece(self, line: bytes) -> NumberedPiece | None:
        try:
            return NumberedPiece.model_validate_json(line)
        except ValidationError:
            warnings.warn(
                f"{self._url} sends what is no piece of text; it is left out, the run's result has it. "
                "Is the worker there of another version?",
                UnreadablePieceWarning,
                stacklevel=2,
            )
            return None


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Whole lines only: what a cut connection began is sent again.

    Split here, because text may hold characters that httpx takes for the end of a line.
    """
    begun = b""
    async for received in response.aiter_bytes():
        *whole, begun = (begun + received).split(b"\n")
        for line in whole:
            yield line
