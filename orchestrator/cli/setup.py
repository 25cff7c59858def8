"""``edgeward setup``: prepares the cells of a topology, once each."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from temporalio.client import Client

from orchestrator.cli.cells import Answers, ask_cells, cells_of
from orchestrator.cli.options import (
    DEFAULT_FOLDER,
    FolderOption,
    Output,
    OutputOption,
    TopologyOption,
    run_to_end,
    topology_of,
)
from orchestrator.cli.output import data, note
from orchestrator.dispatch.visibility.registration import Registration, register_attributes
from orchestrator.errors import SetupError
from orchestrator.topology import Cell

WITHIN = timedelta(seconds=30)
"""A server that keeps its index in Elasticsearch takes some seconds for new attributes."""


def setup(
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Only this cell; may be given more than once.")
    ] = None,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """Register what runs can be found by in each cell: their agent, home, residency and places.

    Needs a client that may administer the namespace, and changes nothing where all is there. Runs
    start without it, too, and cannot be filtered by these. The embedded stack does it by itself.
    """
    known = topology_of(topology, folder)

    async def register(client: Client, _: Cell) -> Registration:
        return await register_attributes(client)

    answers = run_to_end(ask_cells(cells_of(known, cell), register, within=WITHIN))
    if output is Output.JSON:
        data(_rows(answers))
    else:
        for name, done in answers.given.items():
            print(f"cell {name}  {_told(done)}")
    for name, reason in answers.failed.items():
        note(f"cell {name}: {reason}")
    if answers.failed:
        raise SetupError(f"not set up: {', '.join(answers.failed)}; correct what is noted and try again")


def _told(done: Registration) -> str:
    parts = [f"registered {', '.join(done.added)}"] if done.added else []
    if done.present:
        parts.append(f"had {', '.join(done.present)} already")
    return "; ".join(parts)


def _rows(answers: Answers[Registration]) -> list[dict[str, object]]:
    return [
        *(_row(name, done, None) for name, done in answers.given.items()),
        *(_row(name, Registration(), reason) for name, reason in answers.failed.items()),
    ]


def _row(cell: str, done: Registration, error: str | None) -> dict[str, object]:
    return {"cell": cell, "added": list(done.added), "present": list(done.present), "error": error}
