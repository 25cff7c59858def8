"""An image in a folder: copied and installed as the Dockerfile says, started as its entry point says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.files import CHECKOUT, Stage, copied, environment, lineage, services, stages

INHERITED = (
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "UV_CACHE_DIR",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
)
"""What an install may see of this environment: where packages come from, and where they are kept."""


@dataclass(frozen=True)
class Image:
    """Where it was made."""

    folder: Path
    stage: str

    def environment(self, service: str, changed: Mapping[str, str]) -> dict[str, str]:
        """What a process of a service sees: its image's variables, its own, then the changed."""
        values = {
            name: value.replace("/app", str(self.folder)) for name, value in environment(self.stage).items()
        }
        values["PATH"] = values["PATH"].replace("$PATH", os.defpath)
        said = {name: str(value) for name, value in services()[service]["environment"].items()}
        values.update({name: value for name, value in said.items() if not value.startswith("${")})
        # the proxies of the machine are none of loopback's
        return {**values, "NO_PROXY": "127.0.0.1", **changed}

    def command(self, service: str) -> list[str]:
        """Entry point and command of a service."""
        entry = services()[service].get("entrypoint") or stages()[self.stage].of("ENTRYPOINT")[0].words
        return [*entry, *services()[service].get("command", ())]

    @asynccontextmanager
    async def started(
        self, command: list[str], environment: Mapping[str, str], log: Path
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process of the image; killed at the end of the block if it still runs."""
        program = shutil.which(command[0], path=environment["PATH"])
        assert program is not None
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                program, *command[1:], cwd=self.folder, env=dict(environment), stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def make(folder: Path, build: str, final: str) -> Image:
    """Makes an image in an empty folder.

    Of its RUN instructions those that install are run, with the Python of the tests, hard links instead of
    copies and no compilation: that of the user who owns the files in a container is not.
    """
    for stage in lineage(build):
        for instruction in stage.instructions:
            if instruction.name == "COPY" and "--from" not in instruction.value:
                _copy(Stage(stage.name, stage.base, (instruction,)), folder)
            if instruction.name == "RUN" and "uv sync" in instruction.value:
                _install(re.sub(r"--mount=\S+", "", instruction.value), folder)
    # the final stage takes the environment and none of what it was built from
    for path in folder.iterdir():
        if path.name != ".venv":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _copy(stages()[final], folder)
    return Image(folder, final)


def _copy(stage: Stage, folder: Path) -> None:
    for source in copied(stage):
        if (CHECKOUT / source).is_dir():
            shutil.copytree(CHECKOUT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(CHECKOUT / source, folder / source)


def _install(command: str, folder: Path) -> None:
    beside_python = Path(sys.executable).parent
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    proxies = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    done = subprocess.run(
        ["sh", "-ec", command],
        cwd=folder,
        env={**kept, **proxies, "PATH": f"{beside_python}:{os.defpath}", "UV_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
