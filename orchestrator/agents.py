"""``@agent`` and ``@step``: what an author says about agents and their steps.

Both attach a definition and return the same object: a step stays a plain activity, an agent a
plain workflow, for Temporal's workers, clients, replayers and for type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import temporalio.activity
import temporalio.workflow
from temporalio.common import RetryPolicy

from orchestrator.budgets import Budget
from orchestrator.errors import ConfigurationError
from orchestrator.placement import (
    AgentProfile,
    DispatchChoice,
    Handoff,
    OnCellLoss,
    RunTime,
    StepProfile,
    WithoutPlace,
)
from orchestrator.queues import checked_kind
from orchestrator.requirements import Needs, Objective, Requirements, ResidencyLike, requirements
from orchestrator.temporal_seams import activity_name, workflow_class, workflow_name

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
ClassT = TypeVar("ClassT", bound=type)

_STEP = "__edgeward_step__"
_AGENT = "__edgeward_agent__"

DEFAULT_TIMEOUT = timedelta(seconds=60)
DEFAULT_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=10),
    maximum_attempts=4,
)
"""Four tries within about two seconds: an agent's user waits for the answer."""

DEFAULT_LONGEST_WAIT = timedelta(seconds=5)
"""In queues: who waits longer for an answer to begin has gone, and the work is done for nobody."""


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class StepDefinition:
    """What ``@step`` attaches to a function."""

    name: str
    kind: str
    requirements: Requirements
    timeout: timedelta
    retry: RetryPolicy
    repeatable: bool
    cancellable: bool
    dispatch: DispatchChoice
    prior: RunTime | None
    tokens: int | None
    signature: inspect.Signature = field(compare=False, repr=False)

    @cached_property
    def arguments(self) -> int | None:
        """How many it takes, where every one may be given by position; else None."""
        parameters = self.signature.parameters.values()
        by_position = all(parameter.kind in _BY_POSITION for parameter in parameters)
        return len(parameters) if by_position else None

    def profile(self, expected_calls: float) -> StepProfile:
        """The step as the planner sees it."""
        return StepProfile(
            name=self.name,
            kind=self.kind,
            requirements=self.requirements,
            expected_calls=expected_calls,
            prior=self.prior,
            repeatable=self.repeatable,
            cancellable=self.cancellable,
            dispatch=self.dispatch,
            tokens=self.tokens,
        )


@dataclass(frozen=True)
class AgentDefinition:
    """What ``@agent`` attaches to a class."""

    name: str
    requirements: Requirements
    steps: Mapping[str, tuple[StepDefinition, float]] | None
    """Declared steps and how often a run calls each; None where the author declared none."""

    handoffs: Mapping[str, tuple[AgentDefinition, float]] = field(
        default_factory=dict[str, tuple["AgentDefinition", float]]
    )
    without_place: WithoutPlace = "wait"
    on_cell_loss: OnCellLoss = "wait"
    budget: Budget | None = None
    """The author's, its duration being the deadline."""

    longest_wait: timedelta = DEFAULT_LONGEST_WAIT

    def profile(self, known_steps: Iterable[StepDefinition] = ()) -> AgentProfile:
        """The agent as the planner sees it.

        Args:
            known_steps: Steps of the application. Those that the agent does not declare are
                placed too and do not weigh; where it declares none at all, each counts once.
        """
        declared = self.steps or {}
        undeclared_calls = 1.0 if self.steps is None else 0.0
        steps = [definition.profile(calls) for definition, calls in declared.values()]
        steps += [step.profile(undeclared_calls) for step in known_steps if step.name not in declared]
        return AgentProfile(
            name=self.name,
            steps=tuple(steps),
            handoffs=tuple(
                Handoff(below.profile(known_steps), calls) for below, calls in self.handoffs.values()
            ),
            requirements=self.requirements,
            without_place=self.without_place,
            budget=self.budget,
        )


def step(
    *,
    needs: Needs | None = None,
    kind: str | None = None,
    timeout: timedelta = DEFAULT_TIMEOUT,
    retry: RetryPolicy = DEFAULT_RETRY,
    residency: ResidencyLike = None,
    repeatable: bool = True,
    cancellable: bool = True,
    dispatch: DispatchChoice = "auto",
    expected: timedelta | tuple[timedelta, timedelta] | None = None,
    tokens: int | None = None,
    name: str | None = None,
) -> Callable[[FunctionT], FunctionT]:
    """Declares a function a step: an activity that Edgeward places.

    Args:
        needs: What the step must find in its place.
        kind: Which of a region's queues it uses: ``model``, ``vector``, ``tool``, ``code`` or a
            kind of your own. Default: what it needs first.
        timeout: Of one attempt (Temporal's start-to-close timeout).
        retry: Temporal's retry policy.
        residency: Narrows where it may run, on top of the agent's.
        repeatable: Whether it may run again after a crash without harm. A step that is not is
            never run inline.
        cancellable: Whether a cancellation of the run must reach it while it runs. While an inline
            step runs, the run's cancellation, signals and timers wait for it; so a cancellable step
            is inline only up to a second (p95), one that is not up to a minute.
        dispatch: ``inline`` or ``queue`` where the author decides; ``auto`` leaves it to the plan.
        expected: How long its body takes until that has been learned: the p50, or p50 and p95.
        tokens: What the models that it calls may generate at most in one call of it: their ``max_tokens``
            are lowered to what is left of it. Under a budget of tokens so many are reserved before
            each dispatch, and a step that does not say cannot let a model generate anything.
        name: The activity's name; default: the function's.

    Returns:
        A decorator that returns the same function.

    Raises:
        ConfigurationError: The declaration contradicts itself.
    """
    _refuse_contradiction(repeatable, dispatch, timeout)

    def attach(function: FunctionT) -> FunctionT:
        if activity_name(function) is None:
            temporalio.activity.defn(name=name)(function)
        activity = activity_name(function)
        if activity is None:
            raise ConfigurationError(
                f"{function.__qualname__} is a dynamic activity; a step has a name of its own"
            )
        definition = StepDefinition(
            name=activity,
            kind=checked_kind(kind or kind_of(needs)),
            requirements=requirements(needs=needs, residency=residency),
            timeout=timeout,
            retry=retry,
            repeatable=repeatable,
            cancellable=cancellable,
            dispatch=dispatch,
            prior=_prior(expected),
            tokens=_checked_tokens(tokens),
            signature=inspect.signature(function),
        )
        setattr(function, _STEP, definition)
        return function

    return attach


def agent(
    *,
    residency: ResidencyLike = None,
    objective: Objective | None = None,
    steps: Mapping[Callable[..., Any], float] | None = None,
    handoffs: Mapping[type, float] | None = None,
    without_place: WithoutPlace = "wait",
    on_cell_loss: OnCellLoss = "wait",
    deadline: timedelta | None = None,
    budget: Budget | None = None,
    longest_wait: timedelta = DEFAULT_LONGEST_WAIT,
    name: str | None = None,
    sandboxed: bool = True,
) -> Callable[[ClassT], ClassT]:
    """Declares a class an agent: a workflow whose steps Edgeward places.

    Args:
        residency: Where its runs' data may be; hard, and can only be narrowed.
        objective: What to optimise; latency by default.
        steps: Steps and how often a run is expected to call each. Left out: every step of the
            application counts once.
        handoffs: Sub-agents (classes decorated with ``@agent``) and how often each is started.
        without_place: What a run does while no place of a step can do it. ``wait``: it tries them
            again, less and less often, up to the run's own deadline. ``fail``: it fails with a
            ``PlacementError`` once all have been tried.
        on_cell_loss: What becomes of a run whose cell no longer answers. ``wait``: it goes on when the
            cell is back. ``restart``: the client that waits for it starts it again, from its beginning,
            in another cell: for agents whose steps may be repeated, or have their effects under
            ``current_step().idempotency_key``. Its sub-agents go with it, whatever they declare.
        deadline: How long a run may take from its start. Its steps are given what is left of it, none starts
            after it, and a run that is not done by then fails with a ``DeadlineExceededError``.
        budget: What a run may use at most, its sub-agents included; ``duration`` is the deadline.
        longest_wait: A run whose steps would wait longer than this in queues is not started; its caller
            gets an ``AdmissionRefusedError`` that says when to try again.
        name: The workflow's name; default: the class's.
        sandboxed: Whether Temporal's sandbox watches over its determinism at run time. Without
            it a run of five steps is faster by about ten milliseconds, and only replay tests
            notice code that is not deterministic.

    Returns:
        A decorator that returns the same class.

    Raises:
        ConfigurationError: A step or sub-agent is not decorated, or a count is negative.
    """

    def attach(cls: ClassT) -> ClassT:
        if workflow_class(cls) is None:
            temporalio.workflow.defn(name=name, sandboxed=sandboxed)(cls)
        definition = AgentDefinition(
            name=workflow_name(cls),
            requirements=requirements(residency=residency, objective=objective),
            steps=None if steps is None else _declared_steps(cls, steps),
            handoffs=_declared_handoffs(cls, handoffs or {}),
            without_place=without_place,
            on_cell_loss=on_cell_loss,
            budget=with_deadline(budget, deadline),
            longest_wait=_checked_wait(cls, longest_wait),
        )
        setattr(cls, _AGENT, definition)
        return cls

    return attach


def with_deadline(budget: Budget | None, deadline: timedelta | None) -> Budget | None:
    """This budget with a duration of at most so long.

    Raises:
        ConfigurationError: The deadline is not positive.
    """
    if deadline is None:
        return budget
    if deadline <= timedelta():
        raise ConfigurationError(f"a deadline is positive, not {deadline}")
    return (budget or Budget()).merged(Budget(duration=deadline))


def step_definition(function: Callable[..., Any]) -> StepDefinition | None:
    """What ``@step`` attached, if it did."""
    return getattr(function, _STEP, None)


def agent_definition(agent: type | Callable[..., Any]) -> AgentDefinition | None:
    """What ``@agent`` attached, given the class or its run method, if it did."""
    cls = workflow_class(agent)
    return None if cls is None else cls.__dict__.get(_AGENT)


def _refuse_contradiction(repeatable: bool, dispatch: DispatchChoice, timeout: timedelta) -> None:
    if dispatch == "inline" and not repeatable:
        raise ConfigurationError(
            "a step that is not repeatable cannot be inline: after a crash an inline step runs again; "
            "use dispatch='queue'"
        )
    if timeout <= timedelta(0):
        raise ConfigurationError(f"a step's timeout is positive, not {timeout}")


def _checked_tokens(tokens: int | None) -> int | None:
    if tokens is not None and tokens < 0:
        raise ConfigurationError(f"a step's tokens are {tokens}; give zero or more, or leave them out")
    return tokens


def _checked_wait(cls: type, longest_wait: timedelta) -> timedelta:
    if longest_wait < timedelta():
        raise ConfigurationError(
            f"agent {cls.__qualname__} accepts a wait of {longest_wait}; give zero or more"
        )
    return longest_wait


def kind_of(needs: Needs | None) -> str:
    """The kind of a step with these needs, where its author names none."""
    if needs is None:
        return "code"
    if needs.collection is not None:
        return "vector"
    if needs.tool is not None:
        return "tool"
    return "model" if needs.offers else "code"


def _prior(expected: timedelta | tuple[timedelta, timedelta] | None) -> RunTime | None:
    if expected is None:
        return None
    p50, p95 = expected if isinstance(expected, tuple) else (expected, 3 * expected)
    try:
        return RunTime(p50 / timedelta(milliseconds=1), p95 / timedelta(milliseconds=1))
    except ValueError as error:
        raise ConfigurationError(f"a step's expected time cannot be used: {error}") from error


def _declared_steps(
    cls: type, steps: Mapping[Callable[..., Any], float]
) -> dict[str, tuple[StepDefinition, float]]:
    declared: dict[str, tuple[StepDefinition, float]] = {}
    for function, calls in steps.items():
        definition = step_definition(function)
        if definition is None:
            name = getattr(function, "__qualname__", repr(function))
            raise ConfigurationError(
                f"agent {cls.__qualname__} counts {name} as a step; decorate it with @step"
            )
        declared[definition.name] = (definition, _count(cls, definition.name, calls))
    return declared


def _declared_handoffs(cls: type, handoffs: Mapping[type, float]) -> dict[str, tuple[AgentDefinition, float]]:
    declared: dict[str, tuple[AgentDefinition, float]] = {}
    for sub_agent, calls in handoffs.items():
        definition = agent_definition(sub_agent)
        if definition is None:
            raise ConfigurationError(
                f"agent {cls.__qualname__} hands off to {sub_agent.__qualname__}; decorate it with @agent"
            )
        declared[definition.name] = (definition, _count(cls, definition.name, calls))
    return declared


def _count(cls: type, name: str, calls: float) -> float:
    if calls < 0:
        raise ConfigurationError(f"agent {cls.__qualname__} expects {name} {calls} times; give zero or more")
    return float(calls)
