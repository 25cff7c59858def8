"""Which regions an operator has drained: kept by the cell of the region, in its namespace's data.

So it outlives workers and is seen by every process that plans, without a store of our own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.api.namespace.v1 import UpdateNamespaceInfo
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client

from orchestrator.fleet.probes import asking

_KEY = "edgeward.draining."


async def draining_regions(client: Client, deadline: timedelta) -> frozenset[str]:
    """The regions that are drained, as this cell keeps it.

    Raises:
        UnsupportedError: The server does not permit it.
        ProbeError: The cell does not answer in time.
    """
    async with asking(deadline):
        found = await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=client.namespace), timeout=deadline
        )
    # the server merges what is written, so a key that was written once stays, and its value goes
    return frozenset(
        key.removeprefix(_KEY)
        for key, since in found.namespace_info.data.items()
        if key.startswith(_KEY) and since
    )


async def set_draining(client: Client, region: str, draining: bool, deadline: timedelta) -> None:
    """Drains a region, or takes that back.

    Args:
        client: Of the region's own cell.
        region: Its name.
        draining: Whether it takes nothing new.
        deadline: Of the request.

    Raises:
        UnsupportedError: The server does not permit it, as Temporal Cloud does not.
        ProbeError: The cell does not answer in time.
    """
    since = datetime.now(UTC).isoformat(timespec="seconds") if draining else ""
    async with asking(deadline):
        await client.workflow_service.update_namespace(
            UpdateNamespaceRequest(
                namespace=client.namespace, update_info=UpdateNamespaceInfo(data={f"{_KEY}{region}": since})
            ),
            timeout=deadline,
        )
