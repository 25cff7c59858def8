"""Words of a newer version: what one is taken for here."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class KnownOr:
    """Beside a ``Literal`` of what travels between processes: an unknown word is read as this one.

    Anything but a word stays an error.

    Example:
        >>> dispatch: Annotated[Dispatch, KnownOr("queue")]
    """

    fallback: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Tried after the known words, so that these cost nothing more."""

        def replaced(_: str) -> str:
            return self.fallback

        other = core_schema.no_info_after_validator_function(replaced, core_schema.str_schema(strict=True))
        return core_schema.union_schema([handler(source), other], mode="left_to_right")
