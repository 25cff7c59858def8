"""Writing for people and for programs: data to standard output, notes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A remark beside the data."""
    _notes.print(text, style="dim", markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people. Columns whose heading ends in ``ms``, ``RTT`` or ``price`` hold numbers."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        number = column.endswith(("ms", "price", "calls", "slots"))
        drawn.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    # a file or a pipe has no width of its own: nothing is cut there
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    console.print(drawn)


def data(value: Any) -> None:
    """A value for programs, as JSON on standard output."""
    print(json.dumps(jsonable(value), ensure_ascii=False, indent=2, default=str))


def jsonable(value: Any) -> Any:
    """The value as ``json`` can write it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- any JSON
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]  # pyright: ignore[reportUnknownVariableType] -- any JSON
    return value


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"
    return str(value).replace("[", "\\[")
