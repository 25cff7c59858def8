"""Reading a topology from its TOML file, with errors that an operator can act on."""

import csv
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.errors import TopologyError
from orchestrator.topology.model import Topology, shortened

KINDS_OF_VALUES = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}
"""TOML's types as an operator knows them; the remaining ones are dates and times."""

WRONG_TYPES = {
    "string_type": 'not a text; write it in quotes, "..."',
    "tuple_type": "not a list; write it in brackets, [...]",
    "frozen_set_type": "not a list; write it in brackets, [...]",
    "model_type": "not a table; write its keys below a header of its own",
    "int_type": "not a whole number; write it without quotes",
    "float_type": "not a number; write it without quotes",
    "path_type": "not a path; write it in quotes",
}
"""What pydantic's findings mean in a topology, and the remedy."""

UNKNOWN_KEY = "unknown key; remove it or correct its spelling"

WRONG_KEYS = {
    "missing": "is missing; add it",
    "missing_argument": "is missing; add it",
    "extra_forbidden": UNKNOWN_KEY,
    "unexpected_keyword_argument": UNKNOWN_KEY,
    "unexpected_positional_argument": UNKNOWN_KEY,
    "string_too_short": "is empty; write something or remove it",
}
"""Findings about a key rather than its value."""


def load_topology(path: Path | str) -> Topology:
    """Read and validate a topology.

    The file has a table for each cell (``[cells.NAME]``) and each region (``[regions.NAME]``,
    with ``[[regions.NAME.offers]]``), optionally ``[[links]]`` (``source``, ``target``,
    ``rtt_ms``) and ``[rtt] table = "FILE.csv"``, a matrix of milliseconds whose first row and
    column are region names; a link overrides the table.

    Args:
        path: The TOML file. Paths in it are relative to its folder.

    Raises:
        TopologyError: The file is missing, no TOML or not consistent; the message names
            file, key and remedy.
    """
    path = Path(path)
    try:
        raw = _parsed(_text(path))
        _only(raw, {"cells", "regions", "links", "rtt"}, "", "a topology")
        cells, regions = _named(raw, "cells"), _named(raw, "regions")
        from_table, links = _table_links(path.parent, raw), _links(raw)
    except _ProblemError as problem:
        raise TopologyError(f"{path}: {problem}") from problem.__cause__
    values = {"cells": cells, "regions": regions, "links": [*from_table, *links], "source": str(path)}
    try:
        return Topology.model_validate(values)
    except ValidationError as error:
        raise TopologyError(f"{path}: {_first_problem(error, raw, len(from_table))}") from error


class _ProblemError(Exception):
    """What is wrong in the file, before the file's name stands in front of it."""


def _text(path: Path) -> str:
    try:
        # editors on Windows may begin a file with a byte order mark, which TOML does not know
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise _ProblemError("no such file; name a topology with --topology FILE") from error
    except UnicodeDecodeError as error:
        raise _ProblemError("is not UTF-8 text; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _ProblemError(f"cannot be read: {reason}; name a readable file with --topology FILE") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, a list 5000 deep
        twice = re.match(r"Cannot declare \((.*?)\) twice (.*)", str(error))
        if twice:
            key = ".".join(part.strip(" '\"") for part in twice[1].split(",") if part)
            raise _ProblemError(f"{_quoted(key)}: is there twice {twice[2]}; remove or rename one") from error
        reason = " ".join(str(error).split())
        raise _ProblemError(f"is not valid TOML: {reason}; correct it there") from error


def _only(table: Mapping[str, Any], known: set[str], key: str, whole: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise _ProblemError(
            f"{key}{_quoted(unknown[0])}: unknown key; {whole} has {', '.join(sorted(known))}: "
            "remove it or correct its spelling"
        )


def _named(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """``[key.NAME]`` tables as a list of values that know their names."""
    if not raw.get(key):
        raise _ProblemError(f"{key}: there are none; add at least one [{key}.NAME] table")
    values: list[dict[str, Any]] = []
    for name, value in _as_table(key, raw[key], f"[{key}.NAME] tables").items():
        table = _as_table(f"{key}.{_quoted(name)}", value, f"[{key}.{_quoted(name)}]")
        if "name" in table:
            raise _ProblemError(
                f"{key}.{_quoted(name)}.name: unknown key; the name stands in the header: remove it"
            )
        values.append({**table, "name": name})
    return values


def _as_table(key: str, value: object, header: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _ProblemError(f"{key}: is {_kind(value)}, not a table; write it as {header}")
    return cast("dict[str, Any]", value)


def _links(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    links: object = raw.get("links", [])
    if not isinstance(links, list):
        raise _ProblemError(f"links: is {_kind(links)}, not a list; write each as [[links]]")
    return [
        _as_table(f"links[{index}]", link, "[[links]]")
        for index, link in enumerate(cast("list[object]", links))
    ]


def _table_links(folder: Path, raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The links of the ``[rtt] table``; regions that the topology lacks are left out."""
    if "rtt" not in raw:
        return []
    settings = _as_table("rtt", raw["rtt"], "[rtt]")
    _only(settings, {"table"}, "rtt.", "rtt")
    table = settings.get("table")
    if not isinstance(table, str) or not table:
        raise _ProblemError('rtt.table: names no file; write table = "FILE.csv" or remove [rtt]')
    file = folder / table
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise _ProblemError(
            f"rtt.table: {file} cannot be read as a CSV matrix: {reason}; correct its path"
        ) from error
    if not rows or len(rows[0]) < 2:
        raise _ProblemError(f"rtt.table: {file} has no columns; its first row and column are region names")
    return list(_matrix_links(file, rows, frozenset(raw["regions"])))


def _matrix_links(file: Path, rows: list[list[str]], known: frozenset[str]) -> Iterator[dict[str, Any]]:
    header = [name.strip() for name in rows[0]]
    for line, row in enumerate(rows[1:], start=2):
        source = row[0].strip() if row else ""
        if source not in known:
            continue
        for target, text in zip(header[1:], row[1:], strict=False):
            # a hole in the table is no link: the estimate from coordinates stands in
            if target in known and text.strip():
                yield {"source": source, "target": target, "rtt_ms": _milliseconds(file, line, target, text)}


def _milliseconds(file: Path, line: int, target: str, text: str) -> float:
    try:
        rtt_ms = float(text)
    except ValueError:
        rtt_ms = -1.0
    if not 0 <= rtt_ms < float("inf"):
        raise _ProblemError(
            f"rtt.table: {file}, line {line}, column {target}: {shortened(text)} is no round trip time; "
            "write milliseconds, 0 or more, or leave it empty"
        )
    return rtt_ms


def _first_problem(error: ValidationError, raw: Mapping[str, Any], table_links: int) -> str:
    """One line for the first of pydantic's findings: the file's own key, then what is wrong."""
    finding = error.errors(include_url=False)[0]
    key = _file_key(finding["loc"], raw, table_links)
    message = " ".join(_message(finding).split())
    return f"{key}: {message}" if key else message


def _message(finding: ErrorDetails) -> str:
    kind, value, limits = finding["type"], finding["input"], finding.get("ctx", {})
    shown = shortened(value)
    if kind in WRONG_TYPES:
        return f"is {_kind(value)}, {WRONG_TYPES[kind]}"
    if kind in WRONG_KEYS:
        return WRONG_KEYS[kind]
    match kind:
        case "value_error":
            return finding["msg"].removeprefix("Value error, ")
        case "greater_than_equal":
            return f"must be {limits['ge']:g} or more, not {shown}; correct it"
        case "less_than_equal":
            return f"must be {limits['le']:g} or less, not {shown}; correct it"
        case "finite_number":
            return f"must be a finite number, not {shown}; correct it"
        case "literal_error":
            return f"is {shown}; write one of {limits['expected']}"
        case "string_pattern_mismatch" | "string_too_long":
            return f"{shown} is no usable name; write up to 63 of a-z, 0-9 and hyphens, such as eu-west"
        case _:
            return f"{finding['msg']}, not {shown}; correct it"


def _kind(value: object) -> str:
    return next((kind for known, kind in KINDS_OF_VALUES.items() if type(value) is known), "a date or time")


def _file_key(location: tuple[int | str, ...], raw: Mapping[str, Any], table_links: int) -> str:
    """``("regions", 0, "offers", 1, "endpoint")`` as ``regions.eu.offers[1].endpoint``."""
    parts = list(location)
    if len(parts) > 1 and parts[0] in {"cells", "regions"} and isinstance(parts[1], int):
        parts[1] = list(raw[parts[0]])[parts[1]]
        if parts[2:] == ["name"]:  # it stands in the header
            del parts[2]
    elif len(parts) > 1 and parts[0] == "links" and isinstance(parts[1], int):
        # the links of the table come first and were checked when they were read
        parts[1] -= table_links
    key = ""
    for part in parts:
        key += f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}"
    return key.removeprefix(".")


def _quoted(key: str) -> str:
    """A key as TOML writes it: bare where it can be, else quoted and on one line."""
    return key if re.fullmatch(r"[A-Za-z0-9_.-]+", key) else shortened(key)
