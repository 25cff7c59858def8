"""Writing a topology as the TOML that ``load_topology`` reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from orchestrator.errors import StackError
from orchestrator.topology import Topology


def topology_file(topology: Topology) -> str:
    """The text of a topology file that loads as this topology.

    Links stand in the file themselves, also those that came from a table beside it.
    """
    values: dict[str, Any] = topology.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    lines = ["# Written by edgeward."]
    for kind in ("cells", "regions"):
        for value in values[kind]:
            offers: list[dict[str, object]] = list(value.pop("offers", ()))
            name: str = value.pop("name")
            lines += ["", f"[{kind}.{name}]", *_pairs(value)]
            for offer in offers:
                lines += ["", f"[[{kind}.{name}.offers]]", *_pairs(offer)]
    for link in values.get("links", ()):
        lines += ["", "[[links]]", *_pairs(link)]
    return "\n".join(lines) + "\n"


def write_topology(topology: Topology, path: Path) -> Path:
    """Write a topology file; whoever reads it meanwhile sees the old one or the new one whole.

    Raises:
        StackError: It cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.new")
    try:
        unfinished.write_text(topology_file(topology), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StackError(
            f"cannot write {path}: {error.strerror}; free some space or choose a folder"
        ) from error
    return path


def _pairs(table: dict[str, object]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{key} = {_value(value)}"


def _value(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            # JSON's escapes are TOML's; DEL is the one character that only TOML wants escaped
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(_value(item) for item in cast('list[object]', value))}]"
        case dict():
            return f"{{ {', '.join(_pairs(cast('dict[str, object]', value)))} }}"
        case _:
            raise TypeError(f"a topology holds no {type(value).__name__}")
