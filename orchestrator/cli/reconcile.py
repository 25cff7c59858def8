"""``edgeward cells reconcile``: of runs that were started again in another cell, one goes on."""

from __future__ import annotations

from dataclasses import asdict
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
from orchestrator.cli.output import data, note, table
from orchestrator.dispatch import Reconciliation, connect_cell, reconcile
from orchestrator.dispatch.reconciliation import LOOKED_AT
from orchestrator.errors import CellUnavailableError
from orchestrator.topology import Cell, Topology

app = typer.Typer(help="Cells: what a lost one left behind.", no_args_is_help=True)

WITHIN = timedelta(seconds=60)
"""For all runs of a cell."""


@app.callback()
def cells() -> None:
    """Cells: what a lost one left behind."""


@app.command("reconcile")
def reconcile_cells(
    cell: Annotated[list[str] | None, typer.Option("--cell", help="Only this cell; may be repeated.")] = None,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """End runs that go on although they were started again in another cell, and tell of those that had ended.

    Workers and clients do the same by themselves; this is for what they could not reach. It may be repeated.
    """
    known = topology_of(topology, folder)
    wanted = cells_of(known, cell)
    answers = run_to_end(_reconciled(known, wanted))
    if output is Output.JSON and answers.given:
        data([asdict(each) for found in answers.given.values() for each in found.superseded])
    elif answers.given:
        _print(list(answers.given.values()))
    for name, reason in answers.failed.items():
        note(f"cell {name} is left out: {reason}")
    for found in answers.given.values():
        _note_gaps(found)
    if not answers.given:
        raise CellUnavailableError("no cell could be asked; see the notes above")


async def _reconciled(known: Topology, wanted: list[Cell]) -> Answers[Reconciliation]:
    others = {cell.name: await connect_cell(cell, lazy=True) for cell in known.cells}

    async def ask(client: Client, cell: Cell) -> Reconciliation:
        elsewhere = {name: other for name, other in others.items() if name != cell.name}
        return await reconcile(cell.name, client, elsewhere, ended_too=True)

    return await ask_cells(wanted, ask, within=WITHIN)


def _print(found: list[Reconciliation]) -> None:
    superseded = [each for reconciliation in found for each in reconciliation.superseded]
    if not superseded:
        print("no run was started again elsewhere")
        return
    table(
        f"{len(superseded)} runs that another one stands in for",
        ["run", "cell", "status", "now", "stands in", "run there", "status there"],
        (
            (
                each.run,
                each.cell,
                each.status,
                each.outcome,
                each.stands_in,
                each.standing_run if each.standing_run != each.run else None,
                each.standing_status,
            )
            for each in superseded
        ),
    )


def _note_gaps(found: Reconciliation) -> None:
    for name, reason in found.unreachable.items():
        note(f"cell {name} does not answer ({reason}): runs of {found.cell} that go on there are not known")
    if not found.all_seen:
        note(f"cell {found.cell}: only its newest {LOOKED_AT:,} runs were looked at")
