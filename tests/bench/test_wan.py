"""Where the users of the wan bench are, and what it says of distances that nobody measured."""

import pytest

from bench import wan, wan_places
from bench.wan_places import City, distances, largest_cities, named_city, topology
from orchestrator.dev.regions import PLACES, RTT_MS
from orchestrator.errors import UnknownOriginError
from orchestrator.geography import Coordinates, estimated_rtt_ms, resolve_origin

ALL = dict.fromkeys(PLACES, "localhost:7233")


def test_cities_can_be_named() -> None:
    lisbon = named_city("lisbon")
    assert (lisbon.label, lisbon.best_region, lisbon.stand_in) == ("Lisbon, PT", "eu-central", None)
    assert lisbon.coordinates == resolve_origin("Lisbon", {}).coordinates
    point = named_city("-6.2,106.8")
    assert (point.label, point.best_region) == ("-6.2,106.8", "ap-southeast")
    assert point.coordinates == Coordinates(-6.2, 106.8)


def test_an_unknown_city_is_placed_by_its_country_and_that_is_said() -> None:
    city = named_city("Erewhon, Portugal")
    assert city.coordinates == named_city("Lisbon").coordinates
    assert "Erewhon, PT is not known, and taken to be at Lisbon, PT" in distances([city])
    with pytest.raises(UnknownOriginError, match="did you mean Lisbon, PT"):
        named_city("Lisbn")


def test_the_bench_refuses_a_city_that_means_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        wan.main(["--city", "Lisbn"])
    assert refused.value.code == 2
    assert "unknown origin 'Lisbn'" in capsys.readouterr().err


def test_a_whole_table_leaves_the_cities_to_estimate() -> None:
    [told] = distances(largest_cities(2))
    assert "measured for 10 of 10 pairs" in told
    assert "from a city to a region, nobody measured them: estimated from coordinates" in told


def test_holes_in_the_table_are_estimated_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hole = {("eu-central", "us-east"), ("us-east", "eu-central")}
    monkeypatch.setattr(wan_places, "RTT_MS", {pair: rtt for pair, rtt in RTT_MS.items() if pair not in hole})
    measured, missing = distances([])
    assert "measured for 9 of 10 pairs" in measured
    assert missing.endswith("the table has no time for them: eu-central–us-east")
    estimate = estimated_rtt_ms(PLACES["eu-central"].coordinates, PLACES["us-east"].coordinates)
    assert topology(ALL).rtt_ms("us-east", "eu-central") == estimate


def test_the_largest_cities_are_apart_and_count_by_their_people() -> None:
    cities = largest_cities(20)
    assert len({city.label for city in cities}) == 20
    assert [city.population for city in cities] == sorted((c.population for c in cities), reverse=True)
    assert all(isinstance(city, City) and city.floor_ms(100) > 100 for city in cities)
