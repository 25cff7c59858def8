"""Asking all cells of a topology at once, and telling which of them did not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.dispatch import connect_cell
from orchestrator.errors import ConfigurationError, EdgewardError
from orchestrator.topology import Cell, Topology

AnswerT = TypeVar("AnswerT")

WITHIN = timedelta(seconds=5)
"""A cell that takes longer counts as down."""


@dataclass(frozen=True)
class Answers(Generic[AnswerT]):
    """What each cell said."""

    given: Mapping[str, AnswerT]
    """By cell, in the topology's order."""

    failed: Mapping[str, str]
    """Cell → why it said nothing."""


async def ask_cells(
    cells: Iterable[Cell], ask: Callable[[Client, Cell], Awaitable[AnswerT]], *, within: timedelta = WITHIN
) -> Answers[AnswerT]:
    """Asks each cell the same, all at once; one that fails keeps no other from answering.

    Args:
        cells: Whom to ask.
        ask: Given a cell and a client of it, gives the answer.
        within: For connection and answer together.
    """
    asked = list(cells)
    outcomes = await asyncio.gather(*(_asked(cell, ask, within) for cell in asked))
    pairs = [(cell.name, *outcome) for cell, outcome in zip(asked, outcomes, strict=True)]
    return Answers(
        given={name: answer[0] for name, answer, _ in pairs if answer},
        failed={name: reason for name, _, reason in pairs if reason is not None},
    )


async def _asked(
    cell: Cell, ask: Callable[[Client, Cell], Awaitable[AnswerT]], within: timedelta
) -> tuple[tuple[AnswerT] | None, str | None]:
    try:
        async with asyncio.timeout(within.total_seconds()):
            return (await ask(await connect_cell(cell), cell),), None
    except TimeoutError:
        return None, f"no answer within {within.total_seconds():g} s"
    except EdgewardError as error:
        return None, str(error)
    except (RuntimeError, RPCError) as error:  # RuntimeError: what the SDK raises where nobody answers
        return None, (str(error).splitlines() or ["no answer"])[0][:200]


def cells_of(topology: Topology, names: Iterable[str] | None) -> list[Cell]:
    """The cells of these names; all of them where none is named.

    Raises:
        ConfigurationError: The topology has no such cell.
    """
    wanted = list(names or ())
    known = {cell.name: cell for cell in topology.cells}
    for name in wanted:
        if name not in known:
            raise ConfigurationError(
                f"cell {name!r} is not in {topology.source}; name one of {', '.join(sorted(known))}"
            )
    return [known[name] for name in wanted or known]
