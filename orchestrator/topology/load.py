"""Reading a topology from its TOML file, with errors that an operator can act on."""

import csv
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import TopologyError
from orchestrator.topology.model import Topology


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
    raw = _read(path)
    unknown = sorted(raw.keys() - {"cells", "regions", "links", "rtt"})
    if unknown:
        raise TopologyError(
            f"{path}: {unknown[0]}: unknown key; a topology has cells, regions, links and rtt"
        )
    try:
        return Topology.model_validate(
            {
                "cells": _named(path, raw, "cells"),
                "regions": _named(path, raw, "regions"),
                "links": [*_table_links(path, raw), *_list(path, raw, "links")],
                "source": str(path),
            }
        )
    except ValidationError as error:
        raise TopologyError(f"{path}: {_first_problem(error, raw)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise TopologyError(f"{path}: no such file; name a topology with --topology FILE") from error
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TopologyError(f"{path}: is not UTF-8 text; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        twice = re.match(r"Cannot declare \((.*?)\) twice (.*)", str(error))
        if twice:
            key = ".".join(part.strip(" '\"") for part in twice[1].split(",") if part)
            raise TopologyError(f"{path}: {key}: is there twice {twice[2]}; remove or rename one") from error
        raise TopologyError(f"{path}: is not valid TOML: {error}") from error


def _named(path: Path, raw: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """``[key.NAME]`` tables as a list of values that know their names."""
    tables = raw.get(key)
    if not isinstance(tables, dict) or not tables:
        raise TopologyError(f"{path}: {key}: there are none; add at least one [{key}.NAME] table")
    return [
        {**_as_table(path, f"{key}.{name}", table), "name": name}
        for name, table in tables.items()  # pyright: ignore[reportUnknownVariableType] -- raw TOML
    ]


def _as_table(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TopologyError(f"{path}: {key}: is not a table; write it as [{key}]")
    return value  # pyright: ignore[reportUnknownVariableType] -- raw TOML


def _list(path: Path, raw: dict[str, Any], key: str) -> list[Any]:
    value = raw.get(key, [])
    if not isinstance(value, list):
        raise TopologyError(f"{path}: {key}: is not a list; write [[{key}]]")
    return value  # pyright: ignore[reportUnknownVariableType] -- raw TOML


def _table_links(path: Path, raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The links of the ``[rtt] table``; regions that the topology lacks are left out."""
    table = _as_table(path, "rtt", raw.get("rtt", {})).get("table")
    if table is None:
        return []
    file = path.parent / str(table)
    known = raw.get("regions", {})
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            header, *rows = list(csv.reader(lines))
    except (OSError, ValueError, csv.Error) as error:
        raise TopologyError(f"{path}: rtt.table: {file} cannot be read as a CSV matrix: {error}") from error
    links: list[dict[str, Any]] = []
    for row in rows:
        for target, rtt_ms in zip(header[1:], row[1:], strict=False):
            # a hole in the table is no link: the estimate from coordinates stands in
            if rtt_ms.strip() and row[0] in known and target in known:
                links.append({"source": row[0], "target": target, "rtt_ms": rtt_ms})
    return links


def _first_problem(error: ValidationError, raw: dict[str, Any]) -> str:
    """One line for the first of pydantic's findings: the file's own key, then what is wrong."""
    finding = error.errors(include_url=False)[0]
    message = finding["msg"].removeprefix("Value error, ")
    key = _file_key(finding["loc"], raw)
    if finding["type"] == "missing":
        message = "is missing; add it"
    elif finding["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif finding["type"] in {"greater_than_equal", "less_than_equal", "finite_number"}:
        message += f", not {finding['input']}"
    elif finding["type"] == "string_pattern_mismatch":
        message = f"{finding['input']!r} does not match {finding['ctx']['pattern']}" if "ctx" in finding else message
    return f"{key}: {message}" if key else message


def _file_key(location: tuple[int | str, ...], raw: dict[str, Any]) -> str:
    """``("regions", 0, "offers", 1, "endpoint")`` as ``regions.eu.offers[1].endpoint``."""
    parts = list(location)
    if len(parts) > 1 and parts[0] in {"cells", "regions"} and isinstance(parts[1], int):
        parts[1] = list(raw[parts[0]])[parts[1]]
    key = ""
    for part in parts:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key.removeprefix(".")
