"""The wheel as an artefact: what it holds, and that it works in an environment of its own."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def command(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # the environment's own hatchling: an isolated build would fetch one
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=CHECKOUT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    command(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    command(
        Path(sys.executable).parent / "uv",
        *("pip", "install", "--offline", "--no-deps", "--python", python, wheel),
        cwd=folder.parent,
    )
    # A .pth adds the folder and reads no .pth in it: this checkout, installed there, stays out.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    dependencies = folder / "lib" / version / "site-packages" / "dependencies.pth"
    dependencies.write_text(sysconfig.get_paths()["purelib"])
    return python


def test_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    version = wheel.name.split("-")[1]
    assert {name.split("/")[0] for name in names} == {"orchestrator", f"edgeward-{version}.dist-info"}
    assert "orchestrator/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_holds_every_module_of_the_library(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "orchestrator").rglob("*.py")}
    assert packed == modules


def test_holds_what_the_page_of_a_run_is_made_of(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if "/page_assets/" in name}
    folder = CHECKOUT / "orchestrator" / "trace" / "page_assets"
    assert packed == {str(path.relative_to(CHECKOUT)) for path in folder.iterdir()}


def test_is_imported_from_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    # a user's own packages of the application's names stand beside it
    for name in ("workflows", "activities", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    program = (
        "import orchestrator, orchestrator.topology, workflows, activities, worker\n"
        "assert workflows.MINE and activities.MINE and worker.MINE\n"
        "print(orchestrator.__file__)"
    )
    place = command(installed, "-c", program, cwd=tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent.parent)


def test_brings_the_command(installed: Path, tmp_path: Path) -> None:
    assert "Usage" in command(installed.parent / "edgeward", "--help", cwd=tmp_path)
