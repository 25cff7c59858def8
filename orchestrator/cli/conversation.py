"""Starts a run, prints what it says as it comes, and shows afterwards where each step ran."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from pydantic import BaseModel
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from orchestrator.application import Application
from orchestrator.cli.output import jsonable, table
from orchestrator.client import EdgeClient, EdgeRun
from orchestrator.dev import view_from
from orchestrator.errors import RunFailedError
from orchestrator.geography import Origin
from orchestrator.streams import StreamPiece
from orchestrator.temporal_seams import workflow_run
from orchestrator.topology import Topology
from orchestrator.trace import StepRecord

LONGEST_VALUE = 300
"""Characters of one field of a result that are printed."""


@asynccontextmanager
async def client_at(
    origin: Origin, topology: Topology, application: Application
) -> AsyncGenerator[EdgeClient]:
    """A client of the embedded stack as a user at the origin has one: distances emulated, fleet read once."""
    async with (
        view_from(topology, origin) as seen,
        await EdgeClient.connect(seen, application=application) as client,
    ):
        if client.fleet is not None:
            await client.fleet.refresh()
        yield client


async def converse(
    client: EdgeClient, agent: type, arguments: list[Any], *, origin: Origin, residency: str | None
) -> None:
    """One run, for people.

    Raises:
        RunFailedError: It failed; the message is that of the error that ended it.
    """
    method = cast("Any", workflow_run(agent))
    run = client.submit(method, *arguments, origin=origin, residency=residency)
    print(f"run {run.id} · home {run.plan.home} · {run.plan.latency_ms:,.0f} ms predicted", flush=True)
    printer = _Printer()
    async for piece in run.stream():
        printer.show(piece)
    printer.end()
    try:
        _print_result(await finished(run), printer.text)
    except RunFailedError:
        print_steps(run, await run.steps())
        raise
    print()
    print_steps(run, await run.steps())


async def finished(run: EdgeRun[Any]) -> Any:
    """The run's result.

    Raises:
        RunFailedError: It failed.
    """
    try:
        return await run.result()
    except WorkflowFailureError as error:
        raise RunFailedError(f"run {run.id} failed: {_innermost(error)}") from error


def print_steps(run: EdgeRun[Any], steps: list[StepRecord]) -> None:
    """The table of a run: for each step its place, dispatch, predicted and actual time."""
    table(
        f"home {run.plan.home} · cell {run.plan.cell} · residency {run.plan.residency}",
        ["agent", "step", "place", "dispatch", "predicted ms", "actual ms", "tries", "error"],
        (
            (
                step.agent,
                step.step,
                step.place,
                step.dispatch,
                step.predicted_ms,
                step.actual_ms,
                step.attempts,
                step.error or "",
            )
            for step in steps
        ),
    )


class _Printer:
    """Text as it comes; a heading whenever another step speaks."""

    def __init__(self) -> None:
        self.text = ""
        self._speaker: tuple[str, int, int] | None = None

    def show(self, piece: StreamPiece) -> None:
        speaker = (piece.workflow_id, piece.sequence, piece.attempt)
        if speaker != self._speaker:
            again = f", attempt {piece.attempt}" if piece.attempt > 1 else ""
            print(f"{'' if self._speaker is None else chr(10)}[{piece.step} · {piece.place}{again}] ", end="")
            self._speaker = speaker
        self.text += piece.text
        print(piece.text, end="")
        sys.stdout.flush()

    def end(self) -> None:
        if self._speaker is not None:
            print()


def _print_result(result: Any, streamed: str) -> None:
    """What the stream has not shown yet."""
    if isinstance(result, BaseModel):
        for name in type(result).model_fields:
            value = jsonable(getattr(result, name))
            if not (isinstance(value, str) and value.strip() and value.strip() in streamed):
                print(f"{name}: {_short(value)}")
    elif not (isinstance(result, str) and result.strip() in streamed):
        print(_short(jsonable(result)))


def _short(value: Any) -> str:
    """On one line, and not longer than people read; ``--output json`` has all of it."""
    line = " ".join(_one_line(value).split())
    return line if len(line) <= LONGEST_VALUE else f"{line[: LONGEST_VALUE - 1]}…"


def _one_line(value: Any) -> str:
    if isinstance(value, list):
        items = cast("list[Any]", value)
        return "; ".join(_one_line(item) for item in items) or "–"
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return ", ".join(f"{name} {_one_line(item)}" for name, item in fields.items())
    return str(value)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ApplicationError) and error.type:
        return str(error) if str(error).startswith(error.type) else f"{error.type}: {error.message}"
    return str(error)
