"""Fenced blocks of Markdown pages, and how each kind of them is tried."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.topology import load_topology

FENCE = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")

TRIED = {"python", "toml", "console", "json"}
SHOWN = {"", "text", "mermaid", "bash", "sh", "yaml", "ini"}
"""Languages of blocks that are only looked at."""


class BlockError(Exception):
    """A block does not work; names page and line."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    options: dict[str, str]
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        BlockError: A block is not closed, or its language is not known here.
    """
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        opened = FENCE.match(line)
        if opened is None:
            continue
        language, *options = opened["info"].split() or [""]
        if language not in TRIED | SHOWN:
            raise BlockError(f"{page.name}:{number}: nothing tries {language!r}; use one of {sorted(TRIED)}")
        text: list[str] = []
        for _, inner in lines:
            if re.fullmatch(rf" {{0,3}}{opened['fence'][0]}{{{len(opened['fence'])},}}\s*", inner):
                break
            text.append(inner.removeprefix(opened["indent"]))
        else:
            raise BlockError(f"{page.name}:{number}: the block is not closed")
        pairs = (option.partition("=") for option in options)
        yield Block(
            page.name, number, language, {key: value for key, _, value in pairs}, "\n".join(text) + "\n"
        )


def run_python(page: Path, folder: Path) -> list[str]:
    """Runs the Python blocks of a page in order; returns the names of the files that were written.

    Blocks without ``file=`` are one module, so that later ones know what earlier ones define and
    workflows can be found by their module. A block with ``file=NAME.py`` is that file, which the
    module may import; blocks that come later in the same file are added to it. ``skip`` leaves a
    block out: it is compiled and not run.

    Raises:
        BlockError: One of them fails; names its page and line.
    """
    name = re.sub(r"\W", "_", page.stem).lower()
    files: dict[str, list[tuple[int, str]]] = {}
    for block in blocks(page):
        if block.language != "python":
            continue
        try:
            compile(block.text, block.place, "exec", flags=0x2000)  # a top-level await is fine to show
        except SyntaxError as error:
            raise BlockError(f"{block.place}: is no Python: {error}") from error
        if "skip" not in block.options:
            files.setdefault(block.options.get("file", f"page_{name}.py"), []).append(
                (block.line, block.text)
            )
    for file, parts in files.items():
        text = ""
        for line, part in parts:
            # blank lines, so that a traceback's line is the page's own
            text += "\n" * (line - text.count("\n")) + part
        (folder / file).write_text(text, encoding="utf-8")
    for file in files:
        module = file.removesuffix(".py")
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BlockError(f"{page.name}, {file} (lines are the page's): {done.stderr}")
    return list(files)


def load_toml(block: Block, folder: Path) -> bool:
    """Loads a block as a topology where it is one; False where it is another kind of file.

    Raises:
        TopologyError: It is none that could be used.
    """
    if not re.search(r"^\[cells\.", block.text, flags=re.MULTILINE):
        return False
    path = folder / f"line-{block.line}.toml"
    path.write_text(block.text, encoding="utf-8")
    load_topology(path)
    return True


def commands(block: Block) -> list[list[str]]:
    """The commands of a console block: its lines that begin with ``$``, continued by a backslash."""
    text = block.text.replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True) for line in text.splitlines() if line.startswith("$ ")]


def try_command(words: list[str], checkout: Path) -> bool:
    """Whether the command exists: asks ``edgeward`` for the help of it, ``make`` for what it would do.

    Options are looked up in the help. False for commands that are not ours.

    Raises:
        BlockError: There is no such command or option.
    """
    words = words[next((i for i, word in enumerate(words) if "=" not in word), 0) :]
    if words[:1] == ["make"]:
        found = subprocess.run(
            ["make", "-n", *words[1:]], cwd=checkout, capture_output=True, text=True, check=False
        )
        if found.returncode:
            raise BlockError(f"{shlex.join(words)}: {found.stderr.strip()}")
        return True
    if words[:1] != ["edgeward"]:
        return False
    plain = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    for end in range(plain, 0, -1):
        text = _help(words[1:end])
        if text is not None:
            break
    else:
        raise BlockError(f"{shlex.join(words)}: edgeward has no help")
    if end == 1 and plain > 1:
        raise BlockError(f"{shlex.join(words)}: edgeward has no command {words[1]}")
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        if not re.search(rf"{re.escape(option)}\b", text):
            raise BlockError(f"{shlex.join(words)}: {shlex.join(words[:end])} has no option {option}")
    return True


def _help(subcommand: list[str]) -> str | None:
    shown = CliRunner().invoke(app, [*subcommand, "--help"], terminal_width=200, env={"NO_COLOR": "1"})
    return shown.output if shown.exit_code == 0 and "Usage" in shown.output else None


def parse_json(block: Block) -> None:
    """Reads a block as JSON, or as JSON Lines.

    Raises:
        BlockError: It is neither.
    """
    try:
        json.loads(block.text)
    except ValueError:
        try:
            for line in block.text.splitlines():
                json.loads(line)
        except ValueError as error:
            raise BlockError(f"{block.place}: is no JSON: {error}") from error
