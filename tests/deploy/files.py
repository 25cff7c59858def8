"""The files of the deployment, read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

CHECKOUT = Path(__file__).resolve().parent.parent.parent
DEPLOY = CHECKOUT / "deploy"
COMPOSE = CHECKOUT / "docker-compose.yml"


def compose() -> dict[str, Any]:
    """With what its anchors merge."""
    return yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana" / "dashboards" / "edgeward.json").read_text(encoding="utf-8"))


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and mode of what a service mounts, in the short form that the file uses."""
    split = (mount.split(":") for mount in service.get("volumes", ()))
    return [(source, target, mode[0] if mode else "rw") for source, target, *mode in split]


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """Of a JSON array, else of the text."""
        return json.loads(self.value) if self.value.startswith("[") else self.value.split()


@dataclass(frozen=True)
class Stage:
    """One stage of the Dockerfile."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def of(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]


def stages() -> dict[str, Stage]:
    """Those of the Dockerfile by name, in order."""
    parser = DockerfileParser(fileobj=BytesIO((CHECKOUT / "Dockerfile").read_bytes()))
    found: dict[str, Stage] = {}
    for part in parser.structure:
        name, value = part["instruction"], part["value"]
        if name == "COMMENT":
            continue
        if name == "FROM":
            base, _, stage = value.split()
            found[stage] = Stage(stage, base, ())
            continue
        last = list(found)[-1]
        stage = found[last]
        found[last] = Stage(stage.name, stage.base, (*stage.instructions, Instruction(name, value)))
    return found


def lineage(name: str) -> list[Stage]:
    """A stage and those it is built on, the first one first."""
    known = stages()
    line = [known[name]]
    while line[0].base in known:
        line.insert(0, known[line[0].base])
    return line


def copied(stage: Stage) -> list[str]:
    """What a stage copies from the checkout."""
    found: list[str] = []
    for instruction in stage.of("COPY"):
        words = instruction.words
        if not words[0].startswith("--from"):
            found += [word for word in words[:-1] if not word.startswith("--")]
    return found


def environment(name: str) -> dict[str, str]:
    """What the ENV instructions of a stage and of those below it set."""
    found: dict[str, str] = {}
    for stage in lineage(name):
        for instruction in stage.of("ENV"):
            found.update(pair.split("=", 1) for pair in instruction.words)
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern for it, or a folder above it, decides."""
    place = PurePosixPath(path)
    above = [str(part) for part in (place, *place.parents) if str(part) != "."]
    out = False
    for line in (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        taken_back = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        names = above if not pattern.startswith("**/") else [PurePosixPath(part).name for part in above]
        if any(fnmatch(name, pattern.removeprefix("**/")) for name in names):
            out = not taken_back
    return out
