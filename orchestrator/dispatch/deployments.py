"""Builds of workers: which of them runs what, by Temporal's worker versioning.

Each region is a worker deployment of its own, because regions are rolled out one after another: what
is new in one of them must not wait for, or stop, the queues of another. A run stays on the build of
its home that it began on; its steps in other regions run on the build that is current there.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import RoutingConfigUpdateState
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus as Status
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from orchestrator.errors import CellUnavailableError, ConfigurationError, DeploymentError

DEFAULT_DEPLOYMENT = "edgeward"

WITHIN = timedelta(seconds=20)
"""For one question or change; the server takes up to some seconds to tell its queues."""

ASKED_AGAIN_S = 0.05
"""Pause between two questions whether a change has reached all queues."""

BuildState = Literal["inactive", "current", "ramping", "draining", "drained", "unknown"]

_STATES: dict[int, BuildState] = {
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE: "inactive",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_CREATED: "inactive",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: "current",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "ramping",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: "draining",
    Status.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: "drained",
}


@dataclass(frozen=True)
class Build:
    """The build that a worker process is.

    Args:
        id: What tells it from others: a commit, an image's digest, a version.
        deployment: What the deployments' names begin with; two applications that share regions
            and cells need two.

    Raises:
        ConfigurationError: One of them cannot be part of a version's name.
    """

    id: str
    deployment: str = DEFAULT_DEPLOYMENT

    def __post_init__(self) -> None:
        # Temporal writes a version as <deployment>.<build>
        for what, text in (("build id", self.id), ("deployment", self.deployment)):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+.@-]{0,127}", text):
                raise ConfigurationError(
                    f"{text!r} is no usable {what}; write letters, digits and -_+.@, such as 2026-11-25.1"
                )
        if "." in self.deployment:
            raise ConfigurationError(f"deployment {self.deployment!r} has a dot; leave it out")

    def of(self, region: str) -> WorkerDeploymentConfig:
        """As a worker of the queues of this region says it."""
        version = WorkerDeploymentVersion(deployment_name(region, self.deployment), self.id)
        return WorkerDeploymentConfig(
            version=version,
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )


@dataclass(frozen=True)
class BuildStatus:
    """One build of a region, as a cell sees it."""

    build: str
    state: BuildState
    """``current``: new runs go there. ``draining``: runs are on it. ``drained``: none is left."""


def deployment_name(region: str, deployment: str = DEFAULT_DEPLOYMENT) -> str:
    """Of a region's workers."""
    return f"{deployment}-{region}"


async def builds_of(client: Client, deployment: str) -> list[BuildStatus]:
    """The builds of a deployment that a cell knows, the newest first; empty if it never saw one.

    Raises:
        CellUnavailableError: The cell does not answer.
    """
    async with _asking(client):
        info = await _described(client, deployment)
    if info is None:
        return []
    found = sorted(info.version_summaries, key=lambda one: one.create_time.ToNanoseconds(), reverse=True)
    return [_status(summary, info) for summary in found]


async def set_current(
    client: Client, deployment: str, build: str, *, ignore_missing_queues: bool = False
) -> None:
    """Makes a build the one that new runs, and steps of other regions' runs, go to.

    Returns when all queues of the cell know: what starts then goes there.

    Args:
        client: Of the cell.
        deployment: The name of a region's deployment.
        build: The build's id; its workers have polled the cell.
        ignore_missing_queues: Even if it does not poll a queue that the current one polls.

    Raises:
        DeploymentError: The cell has not seen the build, or it lacks a queue.
        CellUnavailableError: The cell does not answer.
    """
    async with _asking(client):
        try:
            await client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=client.namespace,
                    deployment_name=deployment,
                    build_id=build,
                    identity=client.identity,
                    ignore_missing_task_queues=ignore_missing_queues,
                ),
                timeout=WITHIN,
            )
        except RPCError as error:
            if error.status not in {RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION}:
                raise
            raise DeploymentError(
                f"build {build} cannot be current in deployment {deployment}: {error.message}; "
                "start its workers first: edgeward worker run --build-id"
            ) from error
        with contextlib.suppress(TimeoutError):  # it is on its way; the server does not take it back
            async with asyncio.timeout(WITHIN.total_seconds()):
                while not await _told_everywhere(client, deployment):
                    await asyncio.sleep(ASKED_AGAIN_S)


async def _described(client: Client, deployment: str) -> WorkerDeploymentInfo | None:
    try:
        answer = await client.workflow_service.describe_worker_deployment(
            DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=deployment),
            timeout=WITHIN,
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return answer.worker_deployment_info


async def _told_everywhere(client: Client, deployment: str) -> bool:
    info = await _described(client, deployment)
    state = info.routing_config_update_state if info is not None else None
    return state != RoutingConfigUpdateState.ROUTING_CONFIG_UPDATE_STATE_IN_PROGRESS


def _status(
    summary: WorkerDeploymentInfo.WorkerDeploymentVersionSummary, info: WorkerDeploymentInfo
) -> BuildStatus:
    build = summary.deployment_version.build_id
    if build == info.routing_config.current_deployment_version.build_id:
        return BuildStatus(build, "current")
    return BuildStatus(build, _STATES.get(summary.status, "unknown"))


@asynccontextmanager
async def _asking(client: Client) -> AsyncGenerator[None]:
    try:
        yield
    except RPCError as error:
        if error.status is RPCStatusCode.UNIMPLEMENTED:
            raise DeploymentError(
                f"the server of namespace {client.namespace} knows no worker versioning; update it"
            ) from error
        raise CellUnavailableError(
            f"namespace {client.namespace} cannot be asked about builds ({error.status.name}); "
            "check the cell's address and server"
        ) from error
    except RuntimeError as error:  # what the SDK raises where nobody answers
        raise CellUnavailableError(
            f"nothing answers for namespace {client.namespace}; check the cell's address and server"
        ) from error
