import csv
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dev.regions import (
    DEFAULT_REGIONS,
    PLACES,
    RTT_MS,
    TOOLS,
    Ports,
    embedded_topology,
    tools_of,
)
from orchestrator.dev.topology_file import topology_file, write_topology
from orchestrator.errors import StackError
from orchestrator.geography import Coordinates, estimated_rtt_ms, great_circle_km, resolve_origin
from orchestrator.topology import Cell, Link, Offer, Region, Topology, load_topology
from tests.shared_data import shared_data


def topology(*names: str, folder: Path = Path("/tmp/x"), ui: bool = True) -> Topology:
    ports = {name: 20_100 + index for index, name in enumerate(names)}
    return embedded_topology(
        names, Ports(20_001, 20_002, 20_003, ports, ports if ui else {}, ports), folder / "with space"
    )


def test_every_pair_of_regions_has_a_measured_time() -> None:
    assert set(RTT_MS) == set(permutations(PLACES, 2))
    for (source, target), rtt_ms in RTT_MS.items():
        # light cannot be faster, and nobody measured more than three times what is usual
        estimate = estimated_rtt_ms(PLACES[source].coordinates, PLACES[target].coordinates)
        assert estimate / 1.7 <= rtt_ms <= estimate * 3


def test_times_and_places_are_those_of_the_source() -> None:
    with shared_data("rtt", "aws_p50_matrix_ms.csv").open(newline="") as file:
        table = {row["source"]: row for row in csv.DictReader(file)}
    for (source, target), rtt_ms in RTT_MS.items():
        assert float(table[f"{source}-1"][f"{target}-1"]) == rtt_ms


def test_regions_are_in_their_cities() -> None:
    for place in PLACES.values():
        city = resolve_origin(f"{place.city}, {place.country}", {})
        assert great_circle_km(city.coordinates, place.coordinates) < 40


@pytest.mark.parametrize("names", [("eu-central",), ("sa-east", "us-east"), DEFAULT_REGIONS, tuple(PLACES)])
def test_every_tool_is_somewhere_and_models_everywhere(names: tuple[str, ...]) -> None:
    built = topology(*names)
    for region in built.regions:
        offered = [offer.name for offer in region.offers if offer.kind != "tool"]
        assert offered == ["chat", "embed", "handbook"]
    offers = [offer.name for region in built.regions for offer in region.offers if offer.kind == "tool"]
    assert {name: offers.count(name) for name in TOOLS} == dict.fromkeys(TOOLS, min(2, len(names)))
    assert len(built.links) == len(names) * (len(names) - 1)


def test_customers_and_products_are_served_in_one_region() -> None:
    assert {"profile", "catalogue"} <= set(tools_of(0, 3))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "at least one region"),
        (("mars",), "unknown region 'mars'; choose from eu-central, us-east"),
        (("us-east", "us-east"), "'us-east' is named twice"),
    ],
)
def test_regions_that_cannot_be_are_said_plainly(names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(StackError, match=reason):
        topology(*names)


def loaded(written: Topology, folder: Path) -> Topology:
    path = write_topology(written, folder / "topology.toml")
    return load_topology(path).model_copy(update={"source": written.source})


@pytest.mark.parametrize("ui", [True, False])
def test_the_embedded_topology_survives_its_file(tmp_path: Path, ui: bool) -> None:
    built = topology(*PLACES, ui=ui, folder=tmp_path)
    assert loaded(built, tmp_path) == built
    assert [path.name for path in tmp_path.iterdir()] == ["topology.toml"]


texts = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1
)  # a lone surrogate is no character, and no file can hold it


@given(target=texts, variable=texts, namespace=texts, price=st.floats(0, 1e300), rtt_ms=st.floats(0, 1e300))
def test_any_topology_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    target: str,
    variable: str,
    namespace: str,
    price: float,
    rtt_ms: float,
) -> None:
    written = Topology(
        cells=(
            Cell(name="a", region="x-1", profile=target),
            Cell(name="b", region="y", address="[::1]:7233", namespace=namespace, ui=target),
        ),
        regions=(
            Region(
                name="x-1",
                coordinates=Coordinates(-90.0, 180.0),
                country="PT",
                jurisdictions=frozenset({namespace}),
                cell="a",
                serves=("b", "a"),
                offers=(
                    Offer(
                        kind="model",
                        name="chat",
                        endpoint="https://model.example/v1",
                        target=target,
                        price=price,
                        slots=3,
                        secret_env=variable,
                    ),
                    Offer(
                        kind="tool",
                        name="t",
                        endpoint="http://t.example",
                        protocol="mcp",
                        secret_file=Path("/run/secrets/key"),
                    ),
                ),
            ),
            Region(
                name="y",
                coordinates=Coordinates(1, 2.5),
                country="US",
                cell="b",
                control="http://127.0.0.1:1",
            ),
        ),
        links=(Link(source="x-1", target="y", rtt_ms=rtt_ms),),
    )
    assert loaded(written, tmp_path_factory.mktemp("topology")) == written


def test_a_file_for_people_names_its_tables() -> None:
    text = topology_file(topology("eu-central", "us-east"))
    for header in ("[cells.eu-central]", "[regions.us-east]", "[[regions.us-east.offers]]", "[[links]]"):
        assert f"\n{header}\n" in text
    with pytest.raises(StackError, match="cannot write /nowhere/here"):
        write_topology(topology("eu-central"), Path("/nowhere/here"))
