"""Imports go one way. The table below is the architecture; a violation names file and line."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent

LEAVES = {"errors", "geography"}
RULES = {"topology", "requirements", "budgets"} | LEAVES
PLACEMENT = {"placement"} | RULES
NAMES = {"queues", "streams", "temporal_seams", "timing"} | LEAVES
AUTHORS = {"agents", "calls", "context"} | NAMES | PLACEMENT
DISPATCH = {"dispatch", "fleet", "backends", "application", "stores", "telemetry"} | AUTHORS
PROCESSES = {"client", "runtime", "trace"} | DISPATCH

ALLOWED: dict[str, set[str]] = {
    "bound": set(),
    "errors": set(),
    "geography": {"errors"},
    "budgets": {"errors"},
    "queues": {"errors"},
    "streams": {"errors"},
    "timing": set(),
    "temporal_seams": {"errors"},
    "topology": LEAVES,
    "requirements": {"topology"} | LEAVES,
    "placement": RULES,
    "context": {"bound", "streams", "timing"} | PLACEMENT,
    "agents": NAMES | PLACEMENT,
    "calls": AUTHORS - {"calls"},
    "application": AUTHORS,
    "telemetry": {"context", "errors"},
    "backends": {"topology", "bound", "context", "errors", "timing", "telemetry"},
    "stores": {"topology", "errors", "timing"},
    "fleet": {"telemetry"} | NAMES | PLACEMENT,
    "dispatch": DISPATCH - {"dispatch"},
    "trace": DISPATCH,
    "client": {"trace"} | DISPATCH,
    "runtime": DISPATCH,
    "dev": PROCESSES,
    "cli": {"dev"} | PROCESSES,
}
"""Part of ``orchestrator`` → the other parts that it may import. Whatever is not here may not."""

HALVES: dict[str, set[str]] = {
    "orchestrator": {"orchestrator"},
    "activities": {"activities", "orchestrator"},
    "workflows": {"workflows", "activities", "orchestrator"},
    "worker": {"worker", "workflows", "activities", "orchestrator"},
}
"""Top-level package → the packages of this project that it may import."""

OURS = {*HALVES, "tests", "bench"}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a module of ``package`` imports.

    Imports inside functions and below ``if TYPE_CHECKING`` count: they tie parts together too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def violations(folder: Path) -> list[str]:
    """``FILE:LINE: what it imports`` for each import against the tables."""
    found: list[str] = []
    for top in HALVES:
        for file in sorted((folder / top).rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            package = ".".join(parts[:-1])
            tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
            for line, name in imported(tree, package):
                reason = refused(parts, name.split("."), folder)
                if reason:
                    found.append(f"{file.relative_to(folder)}:{line}: {reason}")
    return found


def refused(importer: tuple[str, ...], name: list[str], folder: Path) -> str | None:
    top = importer[0]
    if name[0] not in OURS:
        return None
    if name[0] not in HALVES[top]:
        return f"{top} imports {name[0]}"
    if name[0] != "orchestrator" or top != "orchestrator" or importer[1] == "__init__":
        return None
    part = importer[1]
    if part not in ALLOWED:
        return f"orchestrator.{part} is not in the table; add it to ALLOWED with what it may import"
    target = name[1] if len(name) > 1 else ""
    if target == part:
        return None
    if not target or not exists(folder / "orchestrator" / target):
        return f"orchestrator.{part} imports the package itself; import the module that has {target or 'it'}"
    return None if target in ALLOWED[part] else f"orchestrator.{part} imports orchestrator.{target}"


def exists(module: Path) -> bool:
    return module.is_dir() or module.with_suffix(".py").exists()


def test_imports_go_one_way() -> None:
    assert violations(CHECKOUT) == []


def test_the_table_has_no_cycle() -> None:
    settled: set[str] = set()
    while len(settled) < len(ALLOWED):
        ready = {part for part, below in ALLOWED.items() if below <= settled} - settled
        assert ready, f"a cycle among {sorted(ALLOWED.keys() - settled)}"
        settled |= ready


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("orchestrator/placement/a.py", "import orchestrator.fleet", "placement imports orchestrator.fleet"),
        ("orchestrator/placement/a.py", "from orchestrator import fleet", "imports orchestrator.fleet"),
        ("orchestrator/placement/a.py", "from ..fleet import x", "imports orchestrator.fleet"),
        ("orchestrator/placement/a.py", "from .. import fleet", "imports orchestrator.fleet"),
        ("orchestrator/placement/deep/a.py", "from ...fleet import x", "imports orchestrator.fleet"),
        (
            "orchestrator/placement/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from orchestrator.fleet import x",
            "a.py:3: orchestrator.placement imports orchestrator.fleet",
        ),
        (
            "orchestrator/placement/a.py",
            "def f():\n    from orchestrator.fleet import x",
            "imports orchestrator.fleet",
        ),
        ("orchestrator/placement/a.py", "from orchestrator import Needs", "imports the package itself"),
        ("orchestrator/placement/a.py", "import orchestrator", "imports the package itself"),
        ("orchestrator/errors.py", "from orchestrator.geography import x", "imports orchestrator.geography"),
        ("orchestrator/runtime/a.py", "import orchestrator.dev.stack", "imports orchestrator.dev"),
        ("orchestrator/novel/a.py", "import orchestrator.errors", "not in the table"),
        ("orchestrator/__init__.py", "import workflows", "orchestrator imports workflows"),
        ("orchestrator/placement/a.py", "import tests.shared_data", "orchestrator imports tests"),
        ("activities/a.py", "from workflows.research import Research", "activities imports workflows"),
        ("workflows/a.py", "import worker", "workflows imports worker"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, file: str, text: str, expected: str) -> None:
    (tmp_path / "orchestrator" / "fleet").mkdir(parents=True)
    (tmp_path / "orchestrator" / "dev").mkdir()
    (tmp_path / "orchestrator" / "geography.py").touch()
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    (only,) = violations(tmp_path)
    assert expected in only
    assert only.startswith(file)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "orchestrator/fleet/a.py",
            "from orchestrator.placement import x\nfrom . import b\nfrom .b import c",
        ),
        ("orchestrator/fleet/a.py", "import asyncio, httpx\nfrom workflowsx import y"),
        ("orchestrator/__init__.py", "from orchestrator.placement import x\nfrom .placement import x"),
        ("worker/main.py", "import workflows, activities.a\nfrom orchestrator import Needs"),
        ("activities/a.py", "from orchestrator import backends, step\nfrom .b import c"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / "orchestrator" / "placement").mkdir(parents=True)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert violations(tmp_path) == []
