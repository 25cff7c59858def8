"""An application: the agents and steps that are deployed together, and how to find one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.agents import AgentDefinition, StepDefinition, agent_definition, step_definition
from orchestrator.errors import ConfigurationError
from orchestrator.requirements import Needs


@dataclass(frozen=True)
class Application:
    """Agents and steps that are deployed together: what every region's worker registers.

    Raises:
        ConfigurationError: One of them is not decorated, or two have the same name.
    """

    agents: Sequence[type] = ()
    steps: Sequence[Callable[..., Any]] = ()
    rules: Mapping[str, Needs] = field(default_factory=dict[str, Needs])
    """Needs of activities that carry no ``@step``, by name or pattern (``*model_request*``)."""

    def __post_init__(self) -> None:
        _once("agent", [definition.name for definition in self.agent_definitions.values()], self.agents)
        _once("step", [definition.name for definition in self.step_definitions], self.steps)

    @property
    def agent_definitions(self) -> dict[str, AgentDefinition]:
        """What ``@agent`` attached, by the agent's name."""
        found: dict[str, AgentDefinition] = {}
        for cls in self.agents:
            definition = agent_definition(cls)
            if definition is None:
                raise ConfigurationError(f"{cls.__qualname__} is listed as an agent; decorate it with @agent")
            found[definition.name] = definition
        return found

    @property
    def step_definitions(self) -> tuple[StepDefinition, ...]:
        """What ``@step`` attached."""
        found: list[StepDefinition] = []
        for function in self.steps:
            definition = step_definition(function)
            if definition is None:
                name = getattr(function, "__qualname__", repr(function))
                raise ConfigurationError(f"{name} is listed as a step; decorate it with @step")
            found.append(definition)
        return tuple(found)

    def agent(self, name: str) -> type:
        """The agent of this name; upper and lower case are the same.

        Raises:
            ConfigurationError: There is none; the message lists those that there are.
        """
        position = list(self.agent_definitions).index(self.agent_name(name))
        return self.agents[position]

    def agent_name(self, name: str) -> str:
        """The agent's name as it was declared; upper and lower case are the same.

        Raises:
            ConfigurationError: There is none; the message lists those that there are.
        """
        for declared in self.agent_definitions:
            if declared.casefold() == name.casefold():
                return declared
        known = ", ".join(sorted(self.agent_definitions)) or "none"
        raise ConfigurationError(f"unknown agent {name!r}; the application has: {known}")


def load_application(reference: str) -> Application:
    """The application that ``module:attribute`` names, found from the current folder too.

    Raises:
        ConfigurationError: The reference cannot be read or is no ``Application``.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise ConfigurationError(
            f"{reference!r} names no application; write module:attribute, such as my_agents:app"
        )
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not, and its own message says so
        raise ConfigurationError(
            f"{reference}: there is no module {error.name}; run from its folder, or correct the name"
        ) from error
    except AttributeError as error:
        raise ConfigurationError(
            f"{reference}: module {module_name} has no {attribute}; correct the name"
        ) from error
    if not isinstance(found, Application):
        raise ConfigurationError(
            f"{reference} is a {type(found).__name__}; make it an orchestrator.Application"
        )
    return found


def _once(kind: str, names: list[str], members: Sequence[object]) -> None:
    for name in names:
        if names.count(name) > 1 and len(set(map(id, members))) > 1:
            raise ConfigurationError(f"the application has two {kind}s named {name}; rename one")
