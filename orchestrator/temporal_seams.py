"""The facts of Temporal's SDK that have no public door: names and types behind decorated callables.

Kept in one place, so that a change of the SDK is one edit here. The attributes are what the
SDK's own ``Worker`` and ``Client`` read.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias, cast

import temporalio.activity
import temporalio.workflow
from temporalio.client import StartWorkflowUpdateWithStartInput
from temporalio.service import ServiceClient

from orchestrator.errors import ConfigurationError

OneTry: TypeAlias = Callable[[timedelta | None], Awaitable[Any]]
"""Makes one try of a call, within a time if there is one."""


def activity_name(function: Callable[..., Any]) -> str | None:
    """The activity's name, or None if the function is no activity (yet)."""
    definition = temporalio.activity._Definition.from_callable(function)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType] -- see module
    return definition.name if definition else None


def workflow_class(workflow: type | Callable[..., Any]) -> type | None:
    """The class of a workflow, given itself or its run method; None if it is no workflow (yet)."""
    if isinstance(workflow, type):
        definition = temporalio.workflow._Definition.from_class(workflow)  # pyright: ignore[reportPrivateUsage] -- see module
    else:
        definition = temporalio.workflow._Definition.from_run_fn(workflow)  # pyright: ignore[reportPrivateUsage] -- see module
    return definition.cls if definition else None


def workflow_name(workflow: type) -> str:
    """The name under which the workflow is registered.

    Raises:
        ConfigurationError: It is no workflow, or a dynamic one.
    """
    definition = temporalio.workflow._Definition.from_class(workflow)  # pyright: ignore[reportPrivateUsage] -- see module
    if definition is None or definition.name is None:
        raise ConfigurationError(
            f"{workflow.__qualname__} is no workflow with a name; decorate it with @agent or @workflow.defn"
        )
    return definition.name


def workflow_run(workflow: type) -> Callable[..., Any]:
    """The run method of a workflow.

    Raises:
        ConfigurationError: It is no workflow.
    """
    definition = temporalio.workflow._Definition.from_class(workflow)  # pyright: ignore[reportPrivateUsage] -- see module
    if definition is None:
        raise ConfigurationError(f"{workflow.__qualname__} is no workflow; decorate it with @agent")
    return cast("Callable[..., Any]", definition.run_fn)  # pyright: ignore[reportUnknownMemberType] -- see module


def result_type(run: Callable[..., Any]) -> Any:
    """What the run method of a workflow returns, as it is annotated; None if it is not."""
    definition = temporalio.workflow._Definition.from_run_fn(run)  # pyright: ignore[reportPrivateUsage] -- see module
    return definition.ret_type if definition else None


def activity_id_of(handle: temporalio.workflow.ActivityHandle[Any], chosen: str | None) -> str:
    """The id of an activity that was just scheduled: the one that was chosen, or the SDK's own count."""
    return chosen or str(getattr(handle, "_seq", ""))


class WatchedCalls(ServiceClient):
    """Another service client, which lets somebody decide how a call is tried again.

    The SDK tries for ten seconds and tells only how the last try failed, so that nobody knows whether
    the server has taken one of them.

    Args:
        inner: The one that makes the calls.
        around: Given the call's name and what makes one try of it within a time, makes the call. None
            where the call is none of its business.
    """

    def __init__(
        self,
        inner: ServiceClient,
        around: Callable[[str], Callable[[OneTry], Awaitable[Any]] | None],
    ) -> None:
        super().__init__(inner.config)
        self._inner = inner
        self._around = around

    @property
    def worker_service_client(self) -> Any:
        """See base class."""
        return self._inner.worker_service_client

    def update_rpc_metadata(self, metadata: Mapping[str, str | bytes]) -> None:
        """See base class."""
        self._inner.update_rpc_metadata(metadata)

    def update_api_key(self, api_key: str | None) -> None:
        """See base class."""
        self._inner.update_api_key(api_key)

    async def _rpc_call(
        self, rpc: str, req: Any, resp_type: Any, *, retry: bool, timeout: timedelta | None, **options: Any
    ) -> Any:
        call = partial(self._inner._rpc_call, rpc, req, resp_type, **options)  # pyright: ignore[reportPrivateUsage] -- see module
        around = self._around(rpc)
        if around is None:
            return await call(retry=retry, timeout=timeout)

        async def one_try(within: timedelta | None) -> Any:
            return await call(retry=False, timeout=timeout if within is None else within)

        return await around(one_try)


class StartErrors:
    """Keeps the error of an update-with-start from its operation, so that it can be sent once more.

    The operation's handle can be given an error once only; the SDK gives it the first.
    """

    def __init__(self) -> None:
        self._held_back: list[BaseException] = []

    def held_back(self, input: StartWorkflowUpdateWithStartInput) -> StartWorkflowUpdateWithStartInput:
        """The same input, whose operation does not hear of an error."""
        return dataclasses.replace(input, _on_start_error=self._held_back.append)

    def hand_on(self, input: StartWorkflowUpdateWithStartInput) -> None:
        """Tells the operation after all."""
        for error in self._held_back:
            input._on_start_error(error)  # pyright: ignore[reportPrivateUsage] -- see module
