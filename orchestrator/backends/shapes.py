"""Checks a model's JSON against the shape that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from orchestrator.backends.http import where
from orchestrator.errors import ConfigurationError

Schema = type[BaseModel] | Mapping[str, Any]
"""What an answer has to be: a pydantic class or a JSON schema."""

_json_value: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


class ShapeError(ValueError):
    """A text is no JSON of the shape that was asked for. The message says where, not what was read."""


def json_schema(schema: Schema) -> dict[str, Any]:
    """The JSON schema of a shape.

    Raises:
        ConfigurationError: What was given is no valid JSON schema.
    """
    if isinstance(schema, type):
        return schema.model_json_schema()
    # Imported here, and below: it takes a third of what loading all of Edgeward takes otherwise.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    plain = dict(schema)
    try:
        Draft202012Validator.check_schema(plain)
    except SchemaError as error:
        raise ConfigurationError(
            f"schema= is no valid JSON schema at {error.json_path} ({error.validator}); correct it"
        ) from None
    return plain


def parsed_as(schema: Schema, text: str) -> Any:
    """The text as an instance of the class, or as plain JSON values for a JSON schema.

    Raises:
        ShapeError: It is none.
    """
    if isinstance(schema, type):
        try:
            return schema.model_validate_json(text)
        except ValidationError as error:
            raise ShapeError(where(error)) from None
    try:
        value = _json_value.validate_json(text)
    except ValidationError:
        raise ShapeError("it is no JSON") from None
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # a schema that refers to another document does not make the worker fetch it
    nothing_remote: Registry[Any] = Registry()
    validator = Draft202012Validator(dict(schema), registry=nothing_remote)
    first = next(validator.iter_errors(value), None)  # pyright: ignore[reportUnknownMemberType] -- partly typed stub
    if first is not None:
        raise ShapeError(f"{first.json_path}: {first.validator}")
    return value
