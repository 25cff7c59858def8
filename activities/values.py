"""The base of what steps take and return."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen value that travels as JSON: an unknown field is a mistake, not an extension."""

    model_config = ConfigDict(frozen=True, extra="forbid")
