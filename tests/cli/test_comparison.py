"""The end of the demo as people see it."""

import io

import pytest
from rich.console import Console

from orchestrator.cli.comparison import view
from orchestrator.dev.ways import WAYS, Comparison, Leg, WayTimes
from orchestrator.geography import Origin, resolve_origin

CENTRE, NEAR = Leg(1, "user–centre", "user–us-east", 95.2), Leg(1, "user–region", "user–eu-central", 31.5)
APART = Leg(5, "region–centre", "eu-central–us-east", 92.6)
LEGS = {
    "a": (CENTRE,),
    "b": (NEAR, APART),
    "c": (CENTRE, APART),
    "d": (NEAR,),
}


def measured(times_ms: dict[str, tuple[float, ...]], *, near: str = "eu-central") -> Comparison:
    return Comparison(
        origin=resolve_origin("Lisbon", {}),
        central="us-east",
        near=near,
        floor_ms=31.5,
        ways=tuple(
            WayTimes(
                way,
                WAYS[way].name,
                WAYS[way].about.format(near="eu-central", central="us-east"),
                LEGS[way],
                times,
            )
            for way, times in times_ms.items()
        ),
    )


TIMES_MS = {
    "a": (150.0, 140.0, 160.0),
    "b": (600.0, 590.0, 2610.0),
    "c": (700.0, 690.0, 710.0),
    "d": (75.0, 70.0, 80.0),
}


def printed(found: Comparison, *remarks: str, **console: bool) -> str:
    shown = io.StringIO()
    Console(file=shown, width=80, highlight=False, **console).print(view(found, list(remarks)))
    return shown.getvalue()


def line_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_table_has_percentiles_ratios_and_round_trips_on_paper() -> None:
    text = printed(measured(TIMES_MS), "round trip times from Lisbon, PT are estimated")
    assert line_of(text, "(b)").split()[5:] == ["600", "2,610", "3", "19.0", "32", "+", "5×93", "=", "494"]
    assert line_of(text, "(d) Edgeward").split()[2:] == ["75", "80", "3", "2.4", "32"]
    assert "floor: one round trip from Lisbon, PT to eu-central" in text
    assert "Edgeward takes 50% of the time of (a), the fastest other way" in text
    assert "all 12 answers were checked" in text
    assert "round trip times from Lisbon, PT are estimated" in text


def test_it_fits_into_80_columns_and_needs_no_terminal() -> None:
    assert max(map(len, printed(measured(TIMES_MS)).splitlines())) <= 80
    assert "\x1b" not in printed(measured(TIMES_MS))
    assert "\x1b" in printed(measured(TIMES_MS), force_terminal=True)


def test_bars_are_as_long_as_the_times() -> None:
    lines = printed(measured(TIMES_MS)).splitlines()
    bars = {line.split()[0]: line.count("█") for line in lines if "█" in line}
    assert set(bars) == {"(a)", "(b)", "(c)", "(d)", "floor"}
    longest = bars["(c)"]
    assert bars["(b)"] == pytest.approx(longest * 600 / 700, abs=1)
    assert bars["(d)"] == pytest.approx(longest * 75 / 700, abs=1)
    assert bars["floor"] == pytest.approx(longest * 31.5 / 700, abs=1)


def test_where_nothing_is_to_gain_or_another_way_is_faster_that_is_said() -> None:
    text = " ".join(printed(measured(TIMES_MS, near="us-east")).split())
    assert "us-east is the nearest region and the central one: nothing is to gain here" in text
    slower = measured({**TIMES_MS, "d": (300.0,)})
    assert "(a) is faster here: Edgeward takes 200% of its time" in printed(slower)


def test_a_user_inside_a_region_has_no_floor_to_compare_with() -> None:
    found = measured(TIMES_MS, near="us-east")
    inside = Origin(label="us-east", coordinates=found.origin.coordinates, region="us-east")
    here = WayTimes("b", *WAYS["b"], (Leg(1, "user–region", "user–us-east", 0.0),), (12.0,))
    text = printed(Comparison(inside, "us-east", "us-east", 0.0, (here, *found.ways)))
    assert "over HTTP: no distance" in " ".join(text.split())
    assert line_of(text, "(b)").split()[-1] == "0"
    assert line_of(text, "(d) Edgeward").split()[2:6] == ["75", "80", "3", "–"]
