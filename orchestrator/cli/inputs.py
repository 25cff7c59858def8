"""From what a user types to the argument of an agent."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from orchestrator.errors import ConfigurationError
from orchestrator.temporal_seams import workflow_run


def read_input(given: str | None) -> str | None:
    """The input's text; ``-`` stands for standard input.

    Raises:
        ConfigurationError: Standard input is not UTF-8 text.
    """
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ConfigurationError("standard input is not UTF-8 text; convert it") from error


def argument(agent: type, text: str | None) -> list[Any]:
    """The arguments of an agent's run method: none or one.

    A JSON object is read as the argument itself. Any other text is the argument where that is
    a string, or the first field of it that must be given and is a string.

    Raises:
        ConfigurationError: The text does not fit; the message says what the agent takes.
    """
    run = workflow_run(agent)
    parameters = list(inspect.signature(run).parameters.values())[1:]
    if not parameters:
        if text:
            raise ConfigurationError(f"agent {agent.__name__} takes no input; leave --input out")
        return []
    (parameter, *more) = parameters
    if any(other.default is inspect.Parameter.empty for other in more):
        raise ConfigurationError(
            f"agent {agent.__name__} takes several arguments; the command line can give one. "
            "Let its run method take one pydantic model"
        )
    expected: Any = get_type_hints(run).get(parameter.name, str)
    if text is None:
        if parameter.default is not inspect.Parameter.empty:
            return []
        raise ConfigurationError(
            f"agent {agent.__name__} needs an input: --input TEXT, JSON or - ({_takes(expected)})"
        )
    return [_parsed(agent, expected, text)]


def _parsed(agent: type, expected: Any, text: str) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(expected)
    try:
        if isinstance(expected, type) and issubclass(expected, BaseModel):
            return _model(agent, expected, text)
        if expected is str:
            return text
        return adapter.validate_json(text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise ConfigurationError(
            f"input of {agent.__name__}: {key} {problem['msg']}; it takes {_takes(expected)}"
        ) from error


def _model(agent: type, expected: type[BaseModel], text: str) -> BaseModel:
    if _is_object(text):
        return expected.model_validate_json(text)
    for name, field in expected.model_fields.items():
        if field.is_required() and field.annotation is str:
            return expected.model_validate({name: text})
    raise ConfigurationError(f"input of {agent.__name__} is a JSON object: {_takes(expected)}")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _takes(expected: object) -> str:
    if isinstance(expected, type) and issubclass(expected, BaseModel):
        fields = (
            f"{name}{'' if field.is_required() else '?'}" for name, field in expected.model_fields.items()
        )
        return "{" + ", ".join(fields) + "}"
    return expected.__name__ if isinstance(expected, type) else str(expected)
