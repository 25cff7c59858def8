import math
from datetime import UTC, datetime

import pytest

from orchestrator.dev import shop
from orchestrator.dev.arithmetic import LONGEST_EXPRESSION, calculate, convert
from orchestrator.dev.tool_functions import (
    ToolFailedError,
    catalogue,
    distance,
    local_time,
    population,
    profile,
)
from orchestrator.geography import resolve_origin


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(2 + 3) * 4", 20),
        ("7 // 2 + 7 % 2", 4),
        ("2 ^ 10", 1024),
        ("-3 ** 2", -9),
        ("sqrt(2) * sqrt(2)", 2),
        ("max(1, 2.5, 2)", 2.5),
        ("log(e) + cos(pi)", 0),
        ("0.1 + 0.2", 0.3),
    ],
)
def test_an_expression_has_its_value(expression: str, value: float) -> None:
    assert math.isclose(calculate(expression), value, abs_tol=1e-12)


@pytest.mark.parametrize(
    "expression",
    [
        *("", "1 +", "1; 2", "a", "True", "'x'", "(1, 2)", "1 if 1 else 2", "[1][0]", "1 < 2", "lambda: 1"),
        *("__import__('os')", "().__class__", "sqrt.__self__", "max(*[1, 2])", "round(1, ndigits=1)"),
        *("9 ** 9 ** 9", "10 ** 999 * 10 ** 999", "1 / 0", "sqrt(-1)", "(-8) ** 0.5", "1e400", "max()"),
        *("(" * 300 + "1" + ")" * 300, "-" * (LONGEST_EXPRESSION - 1) + "1" * 2),
    ],
)
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        calculate(expression)


def test_units_are_exact() -> None:
    assert convert(1, "mi", "km") == 1.609344
    assert convert(100, "km/h", "m/s") == pytest.approx(27.7777777)
    assert convert(-40, "F", "C") == pytest.approx(-40)
    assert convert(0, "K", "C") == -273.15
    assert convert(1, "GiB", "MB") == 1073.741824
    with pytest.raises(ValueError, match="km measures length and kg mass"):
        convert(1, "km", "kg")
    with pytest.raises(ValueError, match=r"unknown unit 'parsec'; known are m, km"):
        convert(1, "parsec", "km")


def test_distance_and_population_are_those_of_geonames() -> None:
    found = distance("Lisbon", "Singapore")
    assert (found["origin"], found["destination"]) == ("Lisbon, PT", "Singapore, SG")
    assert found["kilometres"] == pytest.approx(11_887, rel=0.005)
    people = population("Tokyo")["population"]
    assert isinstance(people, int)
    assert people > 5_000_000
    with pytest.raises(ToolFailedError, match="unknown origin 'Xanadu Nowhere'"):
        distance("Xanadu Nowhere", "Lisbon")
    with pytest.raises(ToolFailedError, match="is no city"):
        population("38.7,-9.1")


def test_clocks_follow_their_zone_and_its_summer_time() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert local_time("Lisbon", summer)["time"] == "2026-07-01T13:00:00+01:00"
    assert local_time("Singapore", summer)["time"] == "2026-07-01T20:00:00+08:00"
    assert local_time("Lisbon", datetime(2026, 1, 1, 12, tzinfo=UTC))["weekday"] == "Thursday"
    assert local_time("Lisbon")["time_zone"] == "Europe/Lisbon"
    with pytest.raises(ToolFailedError, match="lacks its offset"):
        local_time("Lisbon", datetime(2026, 7, 1, 12))


def test_the_catalogue_ranks_by_matches_and_leaves_out() -> None:
    found = catalogue(["hiking", "light"], limit=3)["products"]
    assert isinstance(found, list)
    assert found[0]["product"] == "p-18"
    assert "p-18" not in str(catalogue(["hiking", "light"], leave_out=["p-18"]))
    assert catalogue(["astronomy"]) == {"products": []}


def test_every_customer_is_consistent() -> None:
    numbers = {product.number for product in shop.PRODUCTS}
    assert len(numbers) == len(shop.PRODUCTS)
    for customer in shop.CUSTOMERS.values():
        assert set(customer.bought) <= numbers
        assert catalogue(list(customer.interests))["products"]
        assert resolve_origin(customer.city, {})
    assert profile("c-102")["interests"] == ["camping", "cooking"]
    with pytest.raises(ToolFailedError, match=r"no customer 'c-1'; the numbers are c-101"):
        profile("c-1")
