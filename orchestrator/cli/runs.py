"""``edgeward runs``: the runs of all cells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from temporalio.client import Client

from orchestrator.cli.cells import Answers, ask_cells
from orchestrator.cli.durations import duration_of, moment_of
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
from orchestrator.errors import CellUnavailableError
from orchestrator.topology import Cell
from orchestrator.trace.runs import LOOKED_AT, ListedRun, RunFilter, RunsOfCell, RunStatus, list_runs, newest

app = typer.Typer(help="Runs of all cells.", no_args_is_help=True)


@app.callback()
def runs() -> None:
    """Runs of all cells."""


@app.command("list")
def list_all(
    agent: Annotated[
        str | None, typer.Option("--agent", help="Of this agent, or of this workflow type.")
    ] = None,
    home: Annotated[str | None, typer.Option("--home", help="With their home in this region.")] = None,
    place: Annotated[
        str | None, typer.Option("--place", help="With a step that was placed in this region.")
    ] = None,
    status: Annotated[RunStatus | None, typer.Option("--status", help="In this state.")] = None,
    slower_than: Annotated[
        str | None,
        typer.Option("--slower-than", help="That took longer, or take longer already: 500ms, 2s, 10m."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Started since: 30m, 2h, 7d ago, or 2026-11-25T08:00 (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=LOOKED_AT, help="At most so many.")] = 20,
    sub_agents: Annotated[
        bool, typer.Option("--sub-agents", help="Also runs that another run started.")
    ] = False,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """List runs of all cells, the newest first. Filters go together: a run has to match each of them."""
    wanted = RunFilter(
        agent=agent,
        home=home,
        status=status,
        place=place,
        slower_than=duration_of(slower_than, "--slower-than") if slower_than is not None else None,
        since=moment_of(since, "--since") if since is not None else None,
        sub_agents=sub_agents,
    )

    async def ask(client: Client, cell: Cell) -> RunsOfCell:
        return await list_runs(client, cell.name, wanted, limit=limit)

    answers = run_to_end(ask_cells(topology_of(topology, folder).cells, ask))
    found = newest(answers.given.values(), limit)
    if output is Output.JSON and answers.given:
        data(found)
    elif answers.given:
        _print(found, wanted, limit)
    _note_gaps(answers)
    if not answers.given:
        raise CellUnavailableError("no cell could list its runs; see the notes above")


def _print(found: list[ListedRun], wanted: RunFilter, limit: int) -> None:
    if not found:
        print("no run matches")
        if not wanted.sub_agents:
            note("runs that other runs started are listed with --sub-agents")
        return
    now = datetime.now(UTC)
    table(
        f"the newest {limit} runs" if len(found) == limit else f"{len(found)} runs",
        ["run", "agent", "status", "home", "places", "started (UTC)", "took ms", "cell"],
        (_row(run, now) for run in found),
    )


def _row(run: ListedRun, now: datetime) -> tuple[object, ...]:
    so_far_ms = max((now - run.started_at) / timedelta(milliseconds=1), 0.0)
    return (
        run.run,
        run.agent,
        run.status.replace("_", " "),
        run.home,
        ", ".join(run.places) or None,
        f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        run.took_ms if run.took_ms is not None else f"{so_far_ms:,.0f} so far",
        run.cell,
    )


def _note_gaps(answers: Answers[RunsOfCell]) -> None:
    for cell, reason in answers.failed.items():
        note(f"cell {cell} is left out: {reason}")
    for cell, found in answers.given.items():
        if not found.all_seen:
            note(
                f"cell {cell}: more than {LOOKED_AT:,} runs match; compared are those that go on or ended "
                "last. Narrow them with --since"
            )
