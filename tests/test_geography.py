"""Distances, and what an origin's text means."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UnknownOriginError
from orchestrator.geography import (
    EARTH_RADIUS_KM,
    NEAREST_RTT_MS,
    Coordinates,
    approximate_origin,
    estimated_rtt_ms,
    great_circle_km,
    is_country,
    jurisdictions_of,
    resolve_origin,
    similar_cities,
)
from tests.shared_data import shared_data

REGIONS = {"frankfurt": Coordinates(50.1, 8.7), "lisbon": Coordinates(0.0, 0.0)}

points = st.builds(Coordinates, st.floats(-90, 90), st.floats(-180, 180))


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        (Coordinates(52.52, 13.405), Coordinates(48.8566, 2.3522), 877.5),
        (Coordinates(-33.8688, 151.2093), Coordinates(51.5074, -0.1278), 16994),
        (Coordinates(0, 179.5), Coordinates(0, -179.5), 111.2),
        (Coordinates(90, 0), Coordinates(-90, 0), 20015),
    ],
)
def test_great_circle_of_known_pairs(a: Coordinates, b: Coordinates, km: float) -> None:
    assert great_circle_km(a, b) == pytest.approx(km, rel=0.002)


@given(points, points)
def test_distances_are_symmetric_and_fit_on_the_globe(a: Coordinates, b: Coordinates) -> None:
    assert great_circle_km(a, a) == 0
    assert great_circle_km(a, b) == pytest.approx(great_circle_km(b, a))
    assert 0 <= great_circle_km(a, b) <= 3.1416 * EARTH_RADIUS_KM
    assert NEAREST_RTT_MS <= estimated_rtt_ms(a, b) < 350


def test_estimates_are_near_what_was_measured_between_cloud_regions() -> None:
    header, *rows = shared_data("rtt", "aws_p50_matrix_ms.csv").read_text().splitlines()
    names = header.split(",")[1:]
    places: dict[str, Coordinates] = {}
    columns, *regions = shared_data("geo", "cloud_regions.csv").read_text().splitlines()
    for row in regions:
        values = dict(zip(columns.split(","), row.split(","), strict=False))
        if values.get("provider", "").lower() == "aws":
            places[values["region"]] = Coordinates(float(values["lat"]), float(values["lon"]))
    ratios: list[float] = []
    for row in rows:
        name, *cells = row.split(",")
        for other, cell in zip(names, cells, strict=True):
            if name < other and cell and name in places and other in places:
                ratios.append(estimated_rtt_ms(places[name], places[other]) / float(cell))
    assert len(ratios) > 300
    assert 0.85 < sorted(ratios)[len(ratios) // 2] < 1.15


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Lisbon", "Lisbon, PT"),
        ("  lisbon, pt ", "Lisbon, PT"),
        ("Lisboa", "Lisbon, PT"),
        ("Lisbon,", "Lisbon, PT"),
        ("São Paulo", "São Paulo, BR"),
        (unicodedata.normalize("NFD", "São Paulo"), "São Paulo, BR"),
        ("München", "Munich, DE"),
        ("Valencia, VE", "Valencia, VE"),
        ("Valencia, Spain", "Valencia, ES"),
        ("Paris", "Paris, FR"),
        ("London, UK", "London, GB"),
        ("PT", "PT"),
        ("uk", "GB"),
        ("Japan", "JP"),
        ("38.72,-9.14", "38.72,-9.14"),
        ("-33.9 , 151.2", "-33.9,151.2"),
        ("90,180", "90,180"),
    ],
)
def test_what_an_origin_means(text: str, label: str) -> None:
    origin = resolve_origin(text, {})
    assert origin.label == label
    assert origin.region is None


def test_a_region_comes_before_a_city_of_its_name() -> None:
    origin = resolve_origin("lisbon", REGIONS)
    assert (origin.region, origin.coordinates) == ("lisbon", REGIONS["lisbon"])
    assert resolve_origin("Lisbon", REGIONS).region is None


def test_a_country_stands_at_its_largest_city() -> None:
    assert resolve_origin("PT", {}).coordinates == resolve_origin("Lisbon", {}).coordinates


@pytest.mark.parametrize(
    "text", ["", " ", ",", "Nowhereville", "XX", "Lisbon, XX", "12", "1,2,3", "nan,nan", "1e3,5"]
)
def test_an_unknown_origin_says_what_would_be_one(text: str) -> None:
    with pytest.raises(
        UnknownOriginError, match=r"unknown origin .* give a region \(frankfurt, lisbon\), a country"
    ):
        resolve_origin(text, REGIONS)


@pytest.mark.parametrize("text", ["Erewhon, PT", " Erewhon,Portugal "])
def test_for_an_unknown_city_its_country_stands_where_that_is_asked_for(text: str) -> None:
    with pytest.raises(UnknownOriginError):
        resolve_origin(text, {})
    origin = approximate_origin(text, {})
    assert (origin.label, origin.stand_in, origin.region) == ("Erewhon, PT", "Lisbon, PT", None)
    assert origin.coordinates == resolve_origin("Lisbon", {}).coordinates


def test_what_is_known_is_not_approximated() -> None:
    for text in ("Lisbon", "lisbon", "38.72,-9.14"):
        assert approximate_origin(text, REGIONS) == resolve_origin(text, REGIONS)
        assert approximate_origin(text, REGIONS).stand_in is None
    assert approximate_origin("PT", {}).stand_in == "Lisbon, PT"
    for text in ("Erewhon", "Erewhon, XX", ", PT", "91,0"):
        with pytest.raises(UnknownOriginError):
            approximate_origin(text, REGIONS)


def test_cities_written_alike_are_found_for_a_message() -> None:
    assert similar_cities("Lisbn")[0] == "Lisbon, PT"
    assert similar_cities("Singapor, SG")[0] == "Singapore, SG"
    assert similar_cities("Qqqqqqqq") == similar_cities("") == []


@pytest.mark.parametrize("text", ["91,0", "-90.5,0", "0,180.5", "0,-200"])
def test_an_origin_off_the_globe_is_refused(text: str) -> None:
    with pytest.raises(UnknownOriginError, match="off the globe: latitude is -90 to 90"):
        resolve_origin(text, {})


def test_jurisdictions() -> None:
    assert jurisdictions_of("PT") == {"PT", "EU"}
    assert jurisdictions_of("GB") == {"GB"}
    assert is_country("PT")
    assert not is_country("pt")
    assert not is_country("UK")
