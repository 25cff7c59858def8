"""The probes: each asks one thing one question, within a deadline, and knows no history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import ValidationError
from temporalio.api.enums.v1 import TaskQueueType, WorkerStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.worker.v1 import WorkerHeartbeat
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    GetSystemInfoRequest,
    ListWorkersRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.errors import EdgewardError
from orchestrator.fleet import status
from orchestrator.fleet.readings import Heartbeat, QueueStatistics
from orchestrator.topology import Region

CELL_ROUND_TRIPS = 3
"""How often a cell is asked in a row: the first may wait for a connection, any for the machines."""

LARGEST_STATUS_BYTES = 1024 * 1024
"""A longer answer of a control endpoint is no status."""

_ENDING = {WorkerStatus.WORKER_STATUS_SHUTTING_DOWN, WorkerStatus.WORKER_STATUS_SHUTDOWN}
_PAGE = 500
_MOST_PAGES = 40


class ProbeError(EdgewardError):
    """A probe was not answered. The message is short and holds nothing of what was asked or said."""


class UnsupportedError(ProbeError):
    """The server answers, and cannot or may not tell this."""


async def cell_round_trips(client: Client, deadline: timedelta) -> list[float]:
    """Round trip times to a cell's server, in milliseconds, over the client's own connection.

    The call (GetSystemInfo) reads nothing on the server. It takes the server about half a
    millisecond, which is in the figure.

    Raises:
        ProbeError: The cell does not answer in time.
    """
    rtts_ms: list[float] = []
    async with asking(deadline):
        for _ in range(CELL_ROUND_TRIPS):
            began = time.perf_counter()
            await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=deadline)
            rtts_ms.append((time.perf_counter() - began) * 1000)
    return rtts_ms


async def heartbeats(client: Client, deadline: timedelta) -> list[Heartbeat]:
    """The latest heartbeat of each worker that the cell lists, living or not.

    Raises:
        UnsupportedError: The server is too old or does not permit it.
        ProbeError: The cell does not answer in time.
    """
    found: list[Heartbeat] = []
    token = b""
    async with asking(deadline):
        for _ in range(_MOST_PAGES):
            page = await client.workflow_service.list_workers(
                ListWorkersRequest(namespace=client.namespace, page_size=_PAGE, next_page_token=token),
                timeout=deadline,
            )
            now = datetime.now(UTC)
            found += [_heartbeat(worker.worker_heartbeat, now) for worker in page.workers_info]
            token = page.next_page_token
            if not token:
                break
    return found


async def queue_statistics(client: Client, queue: str, deadline: timedelta) -> QueueStatistics:
    """Backlog and pollers of a queue of activities.

    Raises:
        UnsupportedError: The server does not permit it.
        ProbeError: The cell does not answer in time.
    """
    async with asking(deadline):
        found = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
                report_stats=True,
            ),
            timeout=deadline,
        )
    polled = [_datetime(poller.last_access_time) for poller in found.pollers]
    return QueueStatistics(
        read_at=datetime.now(UTC),
        backlog=max(0, found.stats.approximate_backlog_count),
        polled_at=max(polled, default=None),
    )


async def control_endpoint(
    http: httpx.AsyncClient, region: Region, deadline: timedelta
) -> tuple[status.WorkerStatus, float]:
    """What the region's worker says of itself, and the round trip time to it in milliseconds.

    Raises:
        ProbeError: It does not answer in time, or what answers is not this region's worker.
    """
    base = (region.control or "").rstrip("/")
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            said = await _status(http, f"{base}/status")
            # the first request may have opened the connection: a round trip more
            began = time.perf_counter()
            await http.get(f"{base}/healthz")
            rtt_ms = (time.perf_counter() - began) * 1000
    except TimeoutError:
        raise ProbeError(f"no answer within {_seconds(deadline)}") from None
    except httpx.HTTPError as error:
        raise ProbeError(_http_reason(error)) from error
    except httpx.InvalidURL as error:
        raise ProbeError("the control address is no URL; correct it in the topology") from error
    if said.region != region.name:
        raise ProbeError(f"a worker of region {said.region!r} answers there; correct the control address")
    return said, rtt_ms


async def _status(http: httpx.AsyncClient, url: str) -> status.WorkerStatus:
    body = bytearray()
    async with http.stream("GET", url) as response:
        if response.status_code != 200:
            raise ProbeError(f"HTTP {response.status_code}")
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > LARGEST_STATUS_BYTES:
                raise ProbeError(f"the answer is longer than {LARGEST_STATUS_BYTES} bytes")
    try:
        return status.WorkerStatus.model_validate_json(bytes(body))
    except ValidationError as error:
        keys = sorted({".".join(map(str, found["loc"])) or "JSON" for found in error.errors()})
        raise ProbeError(f"the answer is no worker status: {', '.join(keys[:3])}") from None


def _http_reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "connection refused"
    return f"no HTTP answer ({type(error).__name__})"


@asynccontextmanager
async def asking(deadline: timedelta) -> AsyncGenerator[None]:
    """Asks a cell in this block: what can go wrong becomes a ``ProbeError``."""
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            yield
    except TimeoutError:
        raise ProbeError(f"no answer within {_seconds(deadline)}") from None
    except RPCError as error:
        name = error.status.name.lower().replace("_", " ")
        if error.status in {RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED}:
            raise UnsupportedError(name) from error
        raise ProbeError(name) from error
    except RuntimeError as error:
        # a client that was made lazily fails to connect with this one
        raise ProbeError("connection failed") from error


def _heartbeat(beat: WorkerHeartbeat, now: datetime) -> Heartbeat:
    slots = beat.activity_task_slots_info
    total = slots.current_available_slots + slots.current_used_slots
    every = beat.elapsed_since_last_heartbeat.ToTimedelta()
    return Heartbeat(
        worker=beat.worker_instance_key,
        queue=beat.task_queue,
        shutting_down=beat.status in _ENDING,
        beat_at=_datetime(beat.heartbeat_time),
        every=every if every > timedelta() else None,
        slots=total if total > 0 else None,
        busy=slots.current_used_slots,
        seen_at=now,
    )


def _datetime(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _seconds(deadline: timedelta) -> str:
    return f"{deadline.total_seconds():g} s"
