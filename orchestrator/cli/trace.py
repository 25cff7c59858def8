"""``edgeward trace``: where a run's steps ran, and where each millisecond went."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from temporalio.client import Client

from orchestrator.cli.call_rows import call_rows
from orchestrator.cli.cells import ask_cells
from orchestrator.cli.files import check_writable, write_text
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
from orchestrator.errors import ConfigurationError, RunNotFoundError
from orchestrator.placement import Candidate
from orchestrator.topology import Cell, Topology
from orchestrator.trace import PARTS, Pause, RunTrace, Slowest, StepTrace, find_run, regret_ms

WIDTH = 48
"""Characters of the waterfall."""

LETTERS: dict[str, str] = dict(zip(PARTS, "drqvXb", strict=True))
"""What stands for each part in it: dispatch, retries, queue wait, delivery, execution, way back."""

PAUSED = "."
"""What stands for the time in which a run waited by its own will."""


def trace(
    run: Annotated[
        str, typer.Argument(help="A run's workflow id, as `edgeward run` prints it, or Temporal's run id.")
    ],
    why: Annotated[
        str | None, typer.Option("--why", help="The receipt of one step: its candidates and what it cost.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Write the run as one HTML file: chart, map and receipts.", metavar="FILE"
        ),
    ] = None,
    topology: TopologyOption = None,
    folder: FolderOption = DEFAULT_FOLDER,
    output: OutputOption = Output.TEXT,
) -> None:
    """Draw the waterfall of a run from its history alone, or tell why a step ran where it ran.

    Looks in every cell of the topology. A run that goes on shows what it waits for.
    """
    if html is not None:
        check_writable(html)
    run_to_end(_trace(topology_of(topology, folder), run, why, html, output))


async def _trace(
    topology: Topology, workflow_id: str, why: str | None, html: Path | None, output: Output
) -> None:
    found = await _found(topology, workflow_id)
    if html is not None:
        # its schema takes a tenth of a second to build, which the waterfall need not wait for
        from orchestrator.trace.page import render_page

        write_text(html, render_page(found, topology))
        note(f"written: {html}")
    if why is not None:
        _explain(found, why, output)
    elif output is Output.JSON:
        data(found)
    elif html is None:
        _draw(found)


async def _found(topology: Topology, name: str) -> RunTrace:
    """The run, in whichever cell has it.

    Raises:
        RunNotFoundError: No cell that answered has it.
    """

    async def look(client: Client, cell: Cell) -> RunTrace | None:
        try:
            run = await find_run(client, name)
        except RunNotFoundError:
            return None
        return run if run.cell else run.model_copy(update={"cell": cell.name})

    answers = await ask_cells(topology.cells, look)
    for cell, reason in answers.failed.items():
        note(f"cell {cell} is left out: {reason}")
    found = [run for run in answers.given.values() if run is not None]
    if found:
        return max(found, key=lambda run: run.started_at)
    asked, away = list(answers.given), list(answers.failed)
    where = f"unknown in {_cells(asked)}" if asked else "no cell answers"
    also = f"; not asked: {_cells(away)}" if asked and away else ""
    raise RunNotFoundError(
        f"run {name}: {where}{also}; its id is what `edgeward run` printed first, and a history is deleted "
        "some time after its run has ended"
    )


def _cells(names: list[str]) -> str:
    return f"cell{'s' * (len(names) > 1)} {', '.join(names)}"


def _draw(run: RunTrace) -> None:
    end = f" · {run.error}" if run.error else ""
    print(f"{run.agent} · {run.workflow_id}")
    print(f"{run.status}{end} · {run.wall_ms:,.0f} ms" + _predicted(run.predicted_ms))
    if run.home:
        print(f"home {run.home} · cell {run.cell} · from {run.origin} · residency {run.residency}")
    else:
        print(f"cell {run.cell}")
    for agent in run.all_agents():
        print()
        _draw_agent(agent, run)
    print()
    print(
        "  ".join(f"{letter} {part.replace('_', ' ')}" for part, letter in LETTERS.items())
        + f"  {PAUSED} pause  * critical path"
    )
    if run.orchestration_ms is not None:
        print(f"orchestration on the critical path: {run.orchestration_ms:,.0f} of {run.wall_ms:,.0f} ms")
    for step in run.all_steps():
        for why in step.why_moved:
            print(f"{step.step} {why}")
    for waiting in run.waits_for:
        print(f"waits for {waiting}")
    if run.slowest is not None:
        print(_slowest(run.slowest))
    for agent in run.all_agents():
        for remark in agent.notes:
            note(f"{agent.agent}: {remark}")


def _draw_agent(agent: RunTrace, run: RunTrace) -> None:
    began = run.started_at
    span_ms = max(run.wall_ms, 1.0)
    title = f"{agent.agent} · home {agent.home or '–'} · {agent.wall_ms:,.0f} ms" + (
        f", {agent.start_ms:,.0f} until its first turn" if agent.start_ms is not None else ""
    )
    rows: list[StepTrace | Pause] = sorted([*agent.steps, *agent.pauses], key=lambda row: row.began_at)
    if not rows:
        print(f"{title} · {agent.status}, no steps")
        return
    table(
        title,
        ["", "step", "place", "dispatch", "tries", "predicted ms", "wall ms", "body ms", "waterfall"],
        (line for row in rows for line in _lines(row, began, span_ms)),
    )


def _lines(row: StepTrace | Pause, began: datetime, span_ms: float) -> Iterator[tuple[object, ...]]:
    if isinstance(row, Pause):
        yield _pause_row(row, began, span_ms)
        return
    yield _step_row(row, began, span_ms)
    yield from call_rows(row)


def _step_row(step: StepTrace, began: datetime, span_ms: float) -> tuple[object, ...]:
    return (
        "*" if step.on_critical_path else "",
        step.step + (f" ✗ {step.error}" if step.error else ""),
        step.place,
        step.dispatch + (", hedge" if step.hedge else ", again" if step.earlier else ""),
        step.attempts,
        step.predicted_ms,
        step.wall_ms,
        step.parts.execution_ms if step.parts else None,
        _bar(step, began, span_ms),
    )


def _pause_row(pause: Pause, began: datetime, span_ms: float) -> tuple[object, ...]:
    bar = "…" if pause.wall_ms is None else PAUSED * max(1, round(pause.wall_ms / span_ms * WIDTH))
    return (
        "*" if pause.on_critical_path else "",
        pause.name,
        None,
        pause.kind,
        None,
        None,
        pause.wall_ms,
        None,
        " " * _at(pause.began_at, began, span_ms) + bar,
    )


def _at(moment: datetime, began: datetime, span_ms: float) -> int:
    """Where on the waterfall a moment is."""
    return min(WIDTH - 1, max(0, int((moment - began) / timedelta(milliseconds=1) / span_ms * WIDTH)))


def _bar(step: StepTrace, began: datetime, span_ms: float) -> str:
    """The step on the run's time, a letter a part."""
    at = _at(step.began_at, began, span_ms)
    if step.parts is None:
        return " " * at + "…"
    drawn = ""
    passed_ms = 0.0
    for part, took_ms in step.parts.by_name().items():
        passed_ms += took_ms
        drawn += LETTERS[part] * (round(passed_ms / span_ms * WIDTH) - len(drawn))
    return " " * at + (drawn or "|")


def _explain(run: RunTrace, name: str, output: Output) -> None:
    """The receipt of a step beside what it cost.

    Raises:
        ConfigurationError: The run has no such step.
    """
    agent = next(
        (agent for agent in run.all_agents() if any(step.step == name for step in agent.steps)), None
    )
    if agent is None:
        names = ", ".join(sorted({step.step for step in run.all_steps()})) or "none yet"
        raise ConfigurationError(f"run {run.workflow_id} called no step {name!r}; it called: {names}")
    calls = [step for step in agent.steps if step.step == name]
    planned = agent.plan.root.step(name) if agent.plan else None
    if planned is None:
        raise ConfigurationError(
            f"run {run.workflow_id} has no receipt of {name}: it was started without a plan"
        )
    if output is Output.JSON:
        regrets = [regret_ms(planned, step) for step in calls]
        data({"receipt": planned, "calls": calls, "regret_ms": regrets})
        return
    table(
        f"{agent.agent}.{name} · home {agent.home} · residency {agent.residency}",
        [
            "",
            "place",
            "dispatch",
            "dispatch ms",
            "network ms",
            "transfer ms",
            "wait ms",
            "run ms",
            "predicted ms",
        ],
        (_candidate_row(candidate, calls[0].place) for candidate in planned.candidates),
    )
    for region, exclusion in planned.excluded.items():
        print(f"excluded   {region}: {exclusion.rule} – {exclusion.reason}")
    for step in calls:
        for why in step.why_moved:
            print(f"moved      {why}")
        print(f"took       {_text(step.wall_ms)} in {step.place}{_regret_text(regret_ms(planned, step))}")


def _candidate_row(candidate: Candidate, place: str | None) -> tuple[object, ...]:
    cost = candidate.cost
    return (
        "→" if candidate.region == place else "",
        candidate.region,
        candidate.dispatch,
        cost.dispatch_ms,
        cost.network_ms,
        cost.transfer_ms,
        cost.wait_ms,
        cost.run_ms,
        cost.predicted_ms,
    )


def _regret_text(regret: float | None) -> str:
    if regret is None:
        return " · there was no other place"
    return f" · regret {regret:+,.0f} ms against the best other place as predicted"


def _slowest(found: Slowest) -> str:
    return f"slowest: {found.in_words}, {found.took_ms:,.0f} ms of {found.of_ms:,.0f}"


def _text(took_ms: float | None) -> str:
    return "not yet known" if took_ms is None else f"{took_ms:,.0f} ms"


def _predicted(predicted_ms: float | None) -> str:
    return "" if predicted_ms is None else f", {predicted_ms:,.0f} predicted for its user"
