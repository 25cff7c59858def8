"""What an agent's code says: ``call`` a step, ``handoff`` to a sub-agent, ``placing`` a block.

Everything here may run in a workflow: it is deterministic and does no I/O.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast, overload

from temporalio import workflow

from orchestrator.agents import DEFAULT_RETRY, DEFAULT_TIMEOUT, step_definition
from orchestrator.errors import ConfigurationError
from orchestrator.requirements import Needs, Requirements, ResidencyLike, requirements

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")

_placing: ContextVar[Requirements | None] = ContextVar("edgeward_placing", default=None)


@overload
async def call(step: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def call(step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
async def call(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a step in its place, typed like the step itself.

    In a workflow this is ``workflow.execute_activity`` with the timeout and retries that the
    step declares. Outside one it simply calls the function, so that an agent's parts can be
    tried without a server.

    Args:
        step: A function decorated with ``@step``, or any activity.
        args: Its arguments.
        kwargs: Its arguments by name; they are put in order, as activities take them.

    Raises:
        temporalio.exceptions.ActivityError: The step failed for good; its cause has the
            type of the error.
    """
    if not workflow.in_workflow():
        result = step(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result
    definition = step_definition(step)
    if definition is not None and not kwargs and len(args) == definition.arguments:
        in_order = list(args)
    else:
        signature = definition.signature if definition else inspect.signature(step)
        in_order = _in_order(step, signature, args, kwargs)
    return await workflow.execute_activity(
        cast("Callable[..., Awaitable[Any]]", step),
        args=in_order,
        start_to_close_timeout=definition.timeout if definition else DEFAULT_TIMEOUT,
        retry_policy=definition.retry if definition else DEFAULT_RETRY,
    )


@overload
async def handoff(agent: Callable[[Any], Awaitable[R]], /, *, id: str | None = None) -> R: ...
@overload
async def handoff(agent: Callable[[Any, A], Awaitable[R]], argument: A, /, *, id: str | None = None) -> R: ...
async def handoff(agent: Callable[..., Awaitable[Any]], /, *arguments: Any, id: str | None = None) -> Any:
    """Runs a sub-agent from its own home, typed like its run method, and waits for its answer.

    This is ``workflow.execute_child_workflow``; the sub-agent's home comes from the run's plan
    when the calling agent declares it (``@agent(handoffs={...})``).

    Args:
        agent: The run method of a class decorated with ``@agent``.
        arguments: What the run method takes, if anything.
        id: The sub-agent's workflow id; Temporal makes one if left out.

    Raises:
        temporalio.exceptions.ChildWorkflowError: The sub-agent failed.
    """
    return await workflow.execute_child_workflow(agent, args=list(arguments), id=id)


@contextmanager
def placing(*, needs: Needs | None = None, residency: ResidencyLike = None) -> Generator[None]:
    """Narrows where the steps and sub-agents of a block may be placed.

    Only the places of the plan are considered, so a block can never widen what the run allows.
    If none of them is left, the step fails with a ``PlacementError`` that names the rule.

    Args:
        needs: Offers that the places must have besides those of each step.
        residency: Jurisdictions that the places must lie in.

    Example:
        >>> with placing(residency="DE"):
        ...     summary = await call(summarise, record)
    """
    outer = _placing.get()
    inner = requirements(needs=needs, residency=residency)
    token = _placing.set(outer.merged(inner) if outer else inner)
    try:
        yield
    finally:
        _placing.reset(token)


def current_requirements() -> Requirements | None:
    """The requirements of the ``placing`` blocks around the caller, merged; None outside one."""
    return _placing.get()


def _in_order(
    step: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """All arguments by position, defaults too: the SDK decodes by type only where the count is full."""
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ConfigurationError(f"step {step.__qualname__} cannot be called like that: {error}") from error
    bound.apply_defaults()
    if bound.kwargs:
        raise ConfigurationError(
            f"step {step.__qualname__} takes {', '.join(bound.kwargs)} by name only; activities take "
            "arguments by position"
        )
    return list(bound.args)
