"""The Dockerfile, as far as it can be read without making an image."""

import re
import tomllib

import pytest

from tests.deploy.files import (
    CHECKOUT,
    Stage,
    compose,
    copied,
    environment,
    ignored,
    lineage,
    services,
    stages,
)

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))

STAGES = list(stages().values())


@pytest.mark.parametrize("stage", STAGES, ids=[stage.name for stage in STAGES])
def test_a_stage_copies_what_is_there_and_not_ignored(stage: Stage) -> None:
    for source in copied(stage):
        assert (CHECKOUT / source).exists(), source
        assert not ignored(source), f"{source} is in .dockerignore"
    for instruction in stage.of("COPY"):
        found = re.match(r"--from=(\S+)", instruction.value)
        assert found is None or found[1] in stages()


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".git/config",
        ".venv/bin/python",
        ".edgeward/topology.toml",
        "tests/deploy/files.py",
        "deploy/topology.toml",
        "bench/out/peers.json",
        "orchestrator/__pycache__/errors.cpython-311.pyc",
        "worker/notes.pyc",
    ],
)
def test_what_is_in_no_image(path: str) -> None:
    assert ignored(path)


@pytest.mark.parametrize(
    "path", ["uv.lock", "orchestrator/dev/launcher.py", "workflows/react.py", "worker/__main__.py"]
)
def test_what_is_in_an_image(path: str) -> None:
    assert not ignored(path)


def test_bases_are_pinned_and_python_is_one_that_the_project_takes() -> None:
    outside = {stage.base for stage in STAGES} - stages().keys()
    for base in outside:
        assert re.search(r":\d+\.\d+\.\d+", base), base
    (python,) = (base for base in outside if base.startswith("python:"))
    assert python.startswith("python:3.11.")
    assert "slim" in python
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"


def test_installs_are_frozen_and_name_extras_that_exist() -> None:
    installs = [run.value for stage in STAGES for run in stage.of("RUN") if "uv sync" in run.value]
    assert len(installs) == 4
    for install in installs:
        assert "--frozen" in install
        assert "--no-default-groups" in install
        assert (
            set(re.findall(r"--extra (\S+)", install)) <= PROJECT["project"]["optional-dependencies"].keys()
        )
        assert set(re.findall(r"--group (\S+)", install)) <= PROJECT["dependency-groups"].keys()


@pytest.mark.parametrize("name", ["worker", "models"])
def test_an_image_runs_as_nobody_in_particular_and_holds_no_tools_of_the_build(name: str) -> None:
    final = stages()[name]
    assert [user.value for user in final.of("USER")] == ["edgeward"]
    assert final.base == "base"
    line = lineage(name)
    made = " ".join(run.value for stage in line for run in stage.of("RUN"))
    assert "uv " not in made
    assert "--uid 10001" in made
    assert list(stages())[-1] == "worker", "the last stage is what is built where none is named"


def test_compose_builds_the_stages_and_is_told_by_the_project_what_version() -> None:
    version = PROJECT["project"]["version"]
    targets = {service["build"]["target"] for service in services().values() if "build" in service}
    assert targets == {"worker", "models"}
    for service in services().values():
        if "build" in service:
            assert service["image"] == f"edgeward-{service['build']['target']}:{version}"
    mounted = {mount.split(":")[1] for mount in compose()["x-edgeward"]["volumes"]}
    assert environment("worker")["EDGEWARD_TOPOLOGY"] in mounted
