"""docker-compose.yml: it keeps the Compose specification, and what it names is there."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from orchestrator.dev.embedding_server import MODEL as EMBEDDING_MODEL
from orchestrator.dev.model_server import MODEL as CHAT_MODEL
from orchestrator.dev.temporal_server import DYNAMIC_CONFIGURATION
from orchestrator.topology import load_topology
from tests.deploy.files import CHECKOUT, COMPOSE, DEPLOY, compose, mounts, services
from workflows import app

TOPOLOGY = load_topology(DEPLOY / "topology.toml")

NAMES = sorted(services())


@pytest.fixture(params=NAMES)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return services()[request.param]


def test_it_keeps_the_compose_specification() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_service_needs_exists(service: dict[str, Any]) -> None:
    known = compose()
    for other, condition in service.get("depends_on", {}).items():
        assert other in known["services"]
        asked = condition["condition"]
        if asked == "service_healthy":
            assert "healthcheck" in known["services"][other], f"{other} says nothing of its health"
        if asked == "service_completed_successfully":
            assert known["services"][other]["restart"].startswith("on-failure")
    assert set(service["networks"]) <= set(known["networks"])
    for source, _, mode in mounts(service):
        if source.startswith("."):
            assert (CHECKOUT / source).exists(), source
            assert mode == "ro", f"{source} can be written"
        else:
            assert source in known["volumes"]


def test_no_service_waits_for_itself() -> None:
    known = services()
    settled: set[str] = set()
    while len(settled) < len(known):
        ready = {name for name in known if set(known[name].get("depends_on", ())) <= settled} - settled
        assert ready, f"a cycle among {sorted(known.keys() - settled)}"
        settled |= ready


def test_published_ports_are_on_loopback_and_differ() -> None:
    published = [port for service in services().values() for port in service.get("ports", ())]
    for port in published:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    hosts = [port.split(":")[1] for port in published]
    assert len(hosts) == len(set(hosts)) > 0


def test_only_who_publishes_a_port_reaches_the_outside(service: dict[str, Any]) -> None:
    assert ("outside" in service["networks"]) == ("ports" in service)


def test_images_are_pinned(service: dict[str, Any]) -> None:
    name, _, tag = service["image"].rpartition(":")
    assert name
    assert re.search(r"\d+\.\d+", tag), service["image"]


def test_services_are_confined(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["restart"] in {"unless-stopped", "on-failure:10", "no"}
    if "build" in service:
        assert service["user"] == "10001:10001"
    # its entry point writes what it was told into its own folder
    assert service.get("read_only") or service["image"].startswith("temporalio/ui:")


def test_those_that_stay_up_say_how_they_are() -> None:
    silent = {
        name
        for name, service in services().items()
        if service["restart"] == "unless-stopped" and "healthcheck" not in service
    }
    # a worker's is in its image; the collector's has nothing that could ask
    assert {name for name in silent if not name.startswith("worker-")} == {"collector"}


def test_secrets_have_no_default_and_are_documented() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    used = re.findall(r"\$\{(\w+)(:[-?][^}]*)?\}", text)
    for name, otherwise in used:
        if name.endswith("PASSWORD"):
            assert otherwise.startswith(":?"), f"{name} has a default"
    assert not re.search(r"PASSWORD: (?!\$\{)\S", text)
    page = (CHECKOUT / "docs" / "deployment.md").read_text(encoding="utf-8")
    example = (DEPLOY / "example.env").read_text(encoding="utf-8")
    for name in {name for name, _ in used}:
        assert f"`{name}`" in page, f"docs/deployment.md lacks {name}"
        assert re.search(rf"^{name}=$", example, flags=re.MULTILINE), f"deploy/example.env lacks {name}"


def test_the_variables_of_our_own_services_are_documented() -> None:
    pages = [CHECKOUT / "docs" / f"{page}.md" for page in ("deployment", "telemetry", "operating")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    for name, service in services().items():
        if "build" in service:
            for variable in service.get("environment", {}):
                assert variable in text, f"{name}: {variable} is on no page"


def test_a_worker_for_each_region_at_its_address() -> None:
    workers = {name: service for name, service in services().items() if name.startswith("worker-")}
    for region in TOPOLOGY.regions:
        worker = workers.pop(f"worker-{region.name}")
        assert worker["command"] == ["--region", region.name]
        assert region.control == f"http://worker-{region.name}:8090"
    assert workers == {}


def test_the_topology_names_services_and_their_ports() -> None:
    known = services()
    for cell in TOPOLOGY.cells:
        host, _, port = str(cell.address).partition(":")
        assert (known[host]["image"].split(":")[0], port) == ("temporalio/server", "7233")
        namespace = known[f"{host}-namespace"]["environment"]
        assert namespace["NAMESPACE"] == cell.namespace
        assert namespace["TEMPORAL_ADDRESS"] == cell.address
        assert (
            f"127.0.0.1:{str(cell.ui).split(':')[2].split('/')[0]}:8080" in known[f"ui-{cell.name}"]["ports"]
        )
    for region in TOPOLOGY.regions:
        for offer in region.offers:
            found = re.match(r"\w+://(?:\w+@)?([\w-]+)(?::(\d+))?/", offer.endpoint)
            assert found
            host, port = found.groups()
            assert host in known
            assert port is None or port in known[host]["command"]
            assert (
                offer.secret_env is None or offer.secret_env in known[f"worker-{region.name}"]["environment"]
            )


def test_the_models_are_called_as_their_servers_call_them() -> None:
    targets = {
        offer.target for region in TOPOLOGY.regions for offer in region.offers if offer.kind == "model"
    }
    assert targets == {CHAT_MODEL, EMBEDDING_MODEL}


def test_every_step_that_ships_has_a_region() -> None:
    offered = {key for region in TOPOLOGY.regions for key in region.offered}
    for step in app.step_definitions:
        assert set(step.requirements.offers) <= offered, step.name


def test_the_cells_are_configured_as_those_of_the_embedded_stack() -> None:
    said = yaml.safe_load((DEPLOY / "temporal" / "dynamic-config.yaml").read_text(encoding="utf-8"))
    assert {key: values[0]["value"] for key, values in said.items()} == DYNAMIC_CONFIGURATION
