"""Following the pieces of a run directly at its places, past the cell's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import structlog

from orchestrator.streams import NumberedPiece, StreamPiece

log = structlog.get_logger(__name__)

RECONNECT_S = 0.2
"""Pause before a lost or refused stream is asked for again."""


async def follow(
    http: httpx.AsyncClient, controls: Sequence[str], workflow_id: str, finished: Awaitable[Any]
) -> AsyncIterator[StreamPiece]:
    """The pieces of a run as they come, from several places, until it has finished.

    A place that cannot be reached gives no pieces; the result does not depend on them.

    Args:
        http: Its pool is used.
        controls: Control endpoints of the places.
        workflow_id: Of the run that the user started.
        finished: Done when the run is; its outcome is not looked at.
    """
    pieces: asyncio.Queue[StreamPiece | None] = asyncio.Queue()
    places = [_Place(http, control, workflow_id, pieces) for control in controls]
    listening = [asyncio.create_task(place.listen()) for place in places]
    ending = asyncio.create_task(_end(finished, places, listening, pieces))
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
    finally:
        for task in (*listening, ending):
            task.cancel()
        await asyncio.gather(*listening, ending, return_exceptions=True)


async def _end(
    finished: Awaitable[Any],
    places: Sequence[_Place],
    listening: Sequence[asyncio.Task[None]],
    pieces: asyncio.Queue[StreamPiece | None],
) -> None:
    """After the run: fetch what the streams have not delivered yet, then close."""
    await asyncio.wait([asyncio.ensure_future(finished)])
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    await asyncio.gather(*(place.rest() for place in places))
    pieces.put_nowait(None)


class _Place:
    """The stream of one run at one place."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        control: str,
        workflow_id: str,
        pieces: asyncio.Queue[StreamPiece | None],
    ) -> None:
        self._http = http
        self._url = f"{control.rstrip('/')}/runs/{quote(workflow_id, safe='')}/pieces"
        self._pieces = pieces
        self._latest = 0

    async def listen(self) -> None:
        while True:
            try:
                await self._read(follow=True)
            except httpx.HTTPError as error:
                log.debug("stream.lost", url=self._url, error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)

    async def rest(self) -> None:
        try:
            await self._read(follow=False)
        except httpx.HTTPError as error:
            log.debug("stream.incomplete", url=self._url, error=type(error).__name__)

    async def _read(self, *, follow: bool) -> None:
        parameters = {"after": str(self._latest), "follow": "true" if follow else "false"}
        timeout = httpx.Timeout(5.0, read=None if follow else 5.0)
        async with self._http.stream("GET", self._url, params=parameters, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line:
                    numbered = NumberedPiece.model_validate_json(line)
                    if numbered.number > self._latest:
                        self._latest = numbered.number
                        self._pieces.put_nowait(numbered.piece)
