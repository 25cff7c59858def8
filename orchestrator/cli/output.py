"""Writing for people and for programs: data to standard output, notes to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160
"""Characters of a line where output goes to a file or a pipe."""

GAP = 2
"""Characters between two columns."""

_notes = Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A remark beside the data."""
    _notes.print(text, style="dim", markup=False)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for people. Columns whose heading ends in ``ms``, ``RTT`` or ``price`` hold numbers."""
    # a file or a pipe has no width of its own: nothing is cut there
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *([*row] for row in cells), strict=True)]
    fits = sum(widths) + GAP * len(widths) <= console.width
    if fits and not any("\n" in text for row in cells for text in row):
        _print_aligned(console, title, columns, cells, widths)
    else:
        console.print(_laid_out(title, columns, cells))


def drawn_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """The same table, to be drawn by whoever asks for it."""
    return _laid_out(title, columns, ([_cell(value) for value in row] for row in rows))


def _print_aligned(
    console: Console,
    title: str,
    columns: Sequence[str],
    cells: Iterable[Sequence[str]],
    widths: Sequence[int],
) -> None:
    """What fits needs no layout: rich takes a millisecond for each row to find that out."""

    def line(texts: Sequence[str]) -> str:
        aligned: list[str] = []
        for column, text, width in zip(columns, texts, widths, strict=True):
            blank = " " * (width - cell_len(text))
            aligned.append(blank + text if _holds_numbers(column) else text + blank)
        return (" " * GAP).join(aligned).rstrip()

    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(Text(line(columns), style="bold"), soft_wrap=True)
    for row in cells:
        console.file.write(line(row) + "\n")


def _laid_out(title: str, columns: Sequence[str], cells: Iterable[Sequence[str]]) -> Table:
    drawn = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, GAP, 0, 0))
    for column in columns:
        drawn.add_column(Text(column), justify="right" if _holds_numbers(column) else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    return drawn


def _holds_numbers(column: str) -> bool:
    return column.endswith(("ms", "price", "calls", "slots", "backlog"))


def data(value: Any) -> None:
    """A value for programs, as JSON on standard output."""
    print(json.dumps(jsonable(value), ensure_ascii=False, indent=2, default=str))


def data_line(value: Any) -> None:
    """A value for programs that read on, as one line of JSON on standard output."""
    print(json.dumps(jsonable(value), ensure_ascii=False, default=str), flush=True)


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
    return str(value)
