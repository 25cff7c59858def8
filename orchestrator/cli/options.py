"""Options that several commands share, and what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from orchestrator.cli.output import note
from orchestrator.dev import RunningStack, described_topology, running_stack
from orchestrator.errors import StackError
from orchestrator.topology import Topology, load_topology

T = TypeVar("T")

DEFAULT_FOLDER = Path(".edgeward")
DEFAULT_FILE = Path("topology.toml")


class Output(StrEnum):
    """How results are written."""

    TEXT = "text"
    JSON = "json"


TopologyOption = Annotated[
    Path | None,
    typer.Option(
        "--topology",
        "-t",
        envvar="EDGEWARD_TOPOLOGY",
        help="Topology file. Default: of the running embedded stack, else ./topology.toml, "
        "else the regions of the embedded stack.",
        show_default=False,
    ),
]
AppOption = Annotated[
    str,
    typer.Option("--app", "-a", envvar="EDGEWARD_APP", help="The application, as module:attribute."),
]
ServedAppOption = Annotated[
    str | None,
    typer.Option(
        "--app",
        "-a",
        envvar="EDGEWARD_APP",
        help="The application, as module:attribute. Default: what the running stack serves, "
        "else the agents that ship.",
        show_default=False,
    ),
]
OriginOption = Annotated[
    str, typer.Option("--origin", help="Where the user is: a region, a country code, lat,lon or a city.")
]
ResidencyOption = Annotated[
    str | None, typer.Option("--residency", help="Jurisdictions that data may enter, such as EU or EU,CH.")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="text or json.")]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the embedded stack keeps its files.")]


def topology_of(file: Path | None, folder: Path = DEFAULT_FOLDER) -> Topology:
    """The topology that a command works on; a note says which, where it was not named.

    Raises:
        TopologyError: The file is not valid.
    """
    if file is not None:
        return load_topology(file)
    stack = found_stack(folder)
    if stack is not None:
        return load_topology(stack.topology)
    if DEFAULT_FILE.exists():
        note(f"topology: {DEFAULT_FILE}")
        return load_topology(DEFAULT_FILE)
    note("topology: the regions of the embedded stack (give another with --topology FILE)")
    return described_topology()


def found_stack(folder: Path) -> RunningStack | None:
    """The embedded stack that runs from the folder, if one does."""
    try:
        return running_stack(folder)
    except StackError:
        return None


def run_to_end(main: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine; Ctrl-C ends it in order and gives exit code 130."""
    try:
        return asyncio.run(main)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
