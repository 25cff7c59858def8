"""What one looks at a deployment with: its files name each other rightly, and show what the code measures."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deploy.files import CHECKOUT, DEPLOY, dashboard, mounts, services

COLLECTOR: dict[str, Any] = yaml.safe_load((DEPLOY / "collector.yaml").read_text(encoding="utf-8"))
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
GRAFANA = DEPLOY / "grafana"

SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
UNITS = {"s": "_seconds", "": ""}

WORDS_OF_QUERIES = {"sum", "by", "rate", "le", "histogram_quantile", "label_values", "$__rate_interval"}


def in_prometheus(name: str, unit: str = "", kind: str = "gauge") -> list[str]:
    """What the collector's exporter calls a metric: dots become underscores, then unit and kind follow."""
    plain = "" if unit.startswith("{") else unit
    return [re.sub(r"\W", "_", name) + UNITS[plain] + suffix for suffix in SUFFIXES[kind]]


@pytest.fixture(scope="module")
def instruments() -> dict[str, set[str]]:
    """The series of each instrument in the code, with their labels."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.deploy.instruments"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        about = json.loads(line)
        labels = {label for key in about["attributes"] for label in in_prometheus(key)}
        for series in in_prometheus(about["name"], about["unit"], about["kind"]):
            found[series] = labels
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Title and text of each query of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard()["templating"]["list"]:
        yield variable["name"], variable["query"]["query"]


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_query_asks_for_what_the_code_measures(
    title: str, query: str, instruments: dict[str, set[str]]
) -> None:
    text = re.sub(r'"[^"]*"', "", query)
    words = set(re.findall(r"[a-z_$]\w+", text)) - WORDS_OF_QUERIES
    series = words & instruments.keys()
    assert len(series) == 1, f"{title}: {words} has no series of the code"
    (only,) = series
    assert words - series <= instruments[only], f"{title}: {only} has no such labels"
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_the_dashboard_shows_everything_that_the_code_measures(instruments: dict[str, set[str]]) -> None:
    text = " ".join(query for _, query in queries())
    shown = {re.sub(r"_(bucket|sum|count)$", "", series) for series in instruments if series in text}
    assert shown == {re.sub(r"_(bucket|sum|count)$", "", series) for series in instruments}


def test_its_panels_and_variables_are_told_apart_and_use_the_provisioned_source() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    sources = yaml.safe_load(
        (GRAFANA / "provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    )
    known = {source["uid"] for source in sources["datasources"]}
    used = {panel["datasource"]["uid"] for panel in board["panels"] if "datasource" in panel}
    assert used | {variable["datasource"]["uid"] for variable in board["templating"]["list"]} <= known
    variables = {variable["name"] for variable in board["templating"]["list"]}
    asked = {name for _, query in queries() for name in re.findall(r"\$([a-z]\w*)", query)}
    assert asked == variables
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["type"] == "row" or panel["description"]


def test_grafana_finds_its_dashboard_and_its_sources() -> None:
    grafana = services()["grafana"]
    targets = {target: source for source, target, _ in mounts(grafana)}
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/edgeward.yaml").read_text(encoding="utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    assert targets[folder] == "./deploy/grafana/dashboards"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/edgeward.json"
    sources = yaml.safe_load(
        (GRAFANA / "provisioning/datasources/prometheus.yaml").read_text(encoding="utf-8")
    )
    for source in sources["datasources"]:
        assert re.split(r"[/:]+", source["url"])[1] in services()


def test_the_collector_uses_what_it_declares_and_sends_where_somebody_is() -> None:
    service = COLLECTOR["service"]
    for pipeline in service["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= COLLECTOR[kind].keys()
        # before anything is kept for a batch
        assert pipeline["processors"][0] == "memory_limiter"
    assert set(service["extensions"]) <= COLLECTOR["extensions"].keys()
    host, _, port = COLLECTOR["exporters"]["otlp_grpc/jaeger"]["endpoint"].partition(":")
    assert host in services()
    assert port == "4317"


def test_workers_send_to_the_collector() -> None:
    asked = services()["worker-eu-central"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    listening = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert asked == f"http://collector:{listening.split(':')[1]}"


def test_prometheus_fetches_from_services_that_serve_metrics() -> None:
    known = services()
    exporter = COLLECTOR["exporters"]["prometheus"]["endpoint"].split(":")[1]
    own = COLLECTOR["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"]["port"]
    temporal = known["temporal-europe"]["environment"]["PROMETHEUS_ENDPOINT"].split(":")[1]
    targets = {
        target
        for job in PROMETHEUS["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    assert targets == {
        f"collector:{exporter}",
        f"collector:{own}",
        f"temporal-europe:{temporal}",
        f"temporal-america:{temporal}",
        "model:8080",
    }
    # each worker has its own series: `instance` is its service.instance.id
    assert next(job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == "edgeward")["honor_labels"]


def test_scripts_are_shell() -> None:
    for script in (DEPLOY / "temporal").glob("*.sh"):
        done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
