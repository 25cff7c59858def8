"""Registers the search attributes of runs in the namespace of a cell: what ``edgeward setup`` does."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeIndexedValueType
from temporalio.service import RPCError, RPCStatusCode

from orchestrator.dispatch.visibility.search_attributes import TYPES
from orchestrator.errors import CellUnavailableError, SetupError

AnswerT = TypeVar("AnswerT")

WITHIN = timedelta(seconds=20)
"""For one request."""

NAMES_OF_TYPES: dict[str, str] = {
    name: "KeywordList" if kind is SearchAttributeIndexedValueType.KEYWORD_LIST else "Keyword"
    for name, kind in TYPES.items()
}
"""Attribute → its type as Temporal's tools spell it."""

NOT_THIS_WAY = frozenset(
    {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.UNAUTHENTICATED}
)
"""What a server answers that keeps its operator API to itself, as Temporal Cloud does."""

AWAY = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@dataclass(frozen=True)
class Registration:
    """What became of the search attributes of a cell."""

    added: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    """Were registered before."""


@dataclass(frozen=True)
class Registered:
    """What a namespace knows of our search attributes."""

    present: tuple[str, ...] = ()
    other_types: Mapping[str, str] = field(default_factory=dict[str, str])
    """Ours by name, registered by somebody as another type."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that nobody has registered."""
        return tuple(name for name in TYPES if name not in self.present and name not in self.other_types)


async def register_attributes(client: Client) -> Registration:
    """Registers the search attributes of runs where they are missing.

    Args:
        client: Of the cell; the namespace is the client's.

    Raises:
        SetupError: The server does not let this client, has no room for them, or has one of another
            type. The message says what to do there instead.
        CellUnavailableError: The cell does not answer.
    """
    known = await _asked(client, "list the search attributes", _registered(client))
    if known.other_types:
        found = ", ".join(f"{name} is {kind}" for name, kind in known.other_types.items())
        wanted = ", ".join(f"{name}={NAMES_OF_TYPES[name]}" for name in known.other_types)
        raise SetupError(
            f"namespace {client.namespace} has other types: {found}; it needs {wanted}. Remove them with "
            "`temporal operator search-attribute remove` if nothing else uses them, and try again"
        )
    if known.missing:
        await _asked(client, "register search attributes", _add(client, known.missing))
    return Registration(added=known.missing, present=known.present)


async def _registered(client: Client) -> Registered:
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace), timeout=WITHIN
    )
    found = {name: kind for name, kind in answer.custom_attributes.items() if name in TYPES}
    other = {
        name: IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").title().replace("_", "")
        for name, kind in found.items()
        if kind != TYPES[name]
    }
    return Registered(tuple(name for name in TYPES if name in found and name not in other), other)


async def _add(client: Client, names: tuple[str, ...]) -> None:
    wanted = {name: IndexedValueType.ValueType(TYPES[name]) for name in names}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted), timeout=WITHIN
    )


async def _asked(client: Client, what: str, asking: Awaitable[AnswerT]) -> AnswerT:
    try:
        return await asking
    except RPCError as error:
        if error.status in NOT_THIS_WAY:
            raise SetupError(_elsewhere(client.namespace, what, error)) from error
        if error.status in AWAY:
            raise CellUnavailableError(
                f"it does not answer: {error.message}; is its server running?"
            ) from error
        raise SetupError(
            f"namespace {client.namespace} does not take them: {error.message}; see what it has with "
            "`temporal operator search-attribute list`"
        ) from error
    except RuntimeError as error:
        # what a lazy client raises when its first call finds no server
        raise CellUnavailableError(f"it does not answer: {error}; is its server running?") from error


def _elsewhere(namespace: str, what: str, error: RPCError) -> str:
    flags = " ".join(f"--search-attribute {name}={kind}" for name, kind in NAMES_OF_TYPES.items())
    return (
        f"the server does not let this client {what} ({error.message}). On Temporal Cloud add them in the "
        f"namespace's page, or: tcld namespace search-attributes add --namespace {namespace} {flags}"
    )
