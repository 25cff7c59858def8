"""The facts of Temporal's SDK that have no public door: names and types behind decorated callables.

Kept in one place, so that a change of the SDK is one edit here. The attributes are what the
SDK's own ``Worker`` and ``Client`` read.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import temporalio.activity
import temporalio.workflow
from temporalio.client import StartWorkflowUpdateWithStartInput

from orchestrator.errors import ConfigurationError


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
