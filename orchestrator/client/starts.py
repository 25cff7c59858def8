"""One request to start a run: within a time, and with what is known when it fails.

A start that is not confirmed may have been accepted all the same. Whether it surely was not decides
whether the run may be started elsewhere, so each try is looked at, not only the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import Plugin
from temporalio.service import ConnectConfig, RPCError, RPCStatusCode, ServiceClient

from orchestrator.temporal_seams import OneTry, WatchedCalls

START_WITHIN = timedelta(seconds=10)
"""How long a cell may take to accept a run: one that is busy with thousands of them takes seconds, and to
start the run elsewhere meanwhile would make it busier."""

REFUSED_WITHIN = timedelta(seconds=1)
"""How long a cell to which there is no connection is tried: nothing was sent, so the run may go elsewhere."""

PAUSE = timedelta(milliseconds=100)
"""Between two tries."""

_START = "start_workflow_execution"
_START_AND_ANSWER = "execute_multi_operation"

_PASSING = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.ABORTED}
"""Another try of the same request may succeed; the server knows it again."""

MAYBE_SILENCE = (RPCError, RuntimeError, TimeoutError)
"""The types of errors by which a cell that does not answer shows; ``is_silence`` tells."""

_SILENT = {RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED}


class NotSentError(RPCError):
    """There was no connection to the cell: the run was surely not accepted."""


class StartTries(Plugin):
    """Of a client's connection: tries starts of runs in this way."""

    def configure_client(self, config: Any) -> Any:
        """See base class."""
        return config

    async def connect_service_client(
        self, config: ConnectConfig, next: Callable[[ConnectConfig], Awaitable[ServiceClient]]
    ) -> ServiceClient:
        """See base class."""
        return WatchedCalls(await next(config), _around)


def is_silence(error: BaseException) -> bool:
    """Whether an error says that a cell does not answer, and nothing of what was asked."""
    if isinstance(error, RPCError):
        return error.status in _SILENT or _is_cut(error)
    return isinstance(error, TimeoutError) or _never_connected(error)


def surely_not_sent(error: BaseException) -> bool:
    """Whether the cell cannot have got the request that failed so."""
    return isinstance(error, NotSentError) or _never_connected(error)


def _is_cut(error: RPCError) -> bool:
    """Whether the connection ended under a request: the SDK's transport says so under several codes."""
    return error.status in (RPCStatusCode.UNKNOWN, RPCStatusCode.INTERNAL) and any(
        word in error.message.lower()
        for word in ("transport error", "h2 protocol error", "connection", "broken pipe")
    )


def _never_connected(error: BaseException) -> bool:
    """Whether it is what a lazy client raises when its first call finds no server."""
    return isinstance(error, RuntimeError) and "client connect" in str(error)


def _around(rpc: str) -> Callable[[OneTry], Awaitable[Any]] | None:
    if rpc == _START:
        return _started
    return _started_and_answered if rpc == _START_AND_ANSWER else None


async def _started(one_try: OneTry) -> Any:
    return await _tried(one_try, START_WITHIN)


async def _started_and_answered(one_try: OneTry) -> Any:
    # the response comes with the run's end: who waits for it watches the cell
    return await _tried(one_try, None)


async def _tried(one_try: OneTry, within: timedelta | None) -> Any:
    began, sent, pause_s = time.monotonic(), False, PAUSE.total_seconds()
    while True:
        passed_s = time.monotonic() - began
        try:
            return await one_try(None if within is None else within - timedelta(seconds=passed_s))
        except RPCError as error:
            sent = sent or not _is_refusal(error)
            bound = START_WITHIN if sent else REFUSED_WITHIN
            passing = error.status in _PASSING or _is_cut(error)
            if not passing or time.monotonic() - began + pause_s >= bound.total_seconds():
                if sent:
                    raise
                raise NotSentError(error.message, error.status, error.raw_grpc_status) from error
        await asyncio.sleep(pause_s)
        pause_s *= 2


def _is_refusal(error: RPCError) -> bool:
    # the words of the SDK's transport for a connection that could not be made
    return error.status is RPCStatusCode.UNAVAILABLE and any(
        word in error.message for word in ("tcp connect error", "dns error")
    )
