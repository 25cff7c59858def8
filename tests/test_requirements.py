"""Requirements: what people write, and the one merge rule."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from orchestrator.errors import ConfigurationError
from orchestrator.geography import Coordinates
from orchestrator.requirements import Needs, Objective, Requirements, Residency, requirements
from orchestrator.topology import OfferKey, Region

NAMES = ["EU", "DE", "FR", "US", "CH", "GB"]
KEYS = [OfferKey("model", "chat"), OfferKey("collection", "handbook"), OfferKey("tool", "rates")]

jurisdictions = st.frozensets(st.sampled_from(NAMES), max_size=4)
clauses = st.frozensets(st.sampled_from(NAMES), min_size=1, max_size=3)
residencies = st.builds(Residency, st.frozensets(clauses, max_size=3))
objectives = st.builds(Objective, st.none() | st.timedeltas(timedelta(milliseconds=1), timedelta(hours=1)))
levels = st.builds(
    Requirements,
    offers=st.frozensets(st.sampled_from(KEYS)),
    residency=residencies,
    objective=st.none() | objectives,
)


class Holder(BaseModel):
    residency: Residency


@given(levels, levels, jurisdictions)
def test_merging_only_narrows(outer: Requirements, nearer: Requirements, lies_in: frozenset[str]) -> None:
    merged = outer.merged(nearer)
    assert merged.residency.covers(lies_in) == (
        outer.residency.covers(lies_in) and nearer.residency.covers(lies_in)
    )
    assert merged.offers == outer.offers | nearer.offers


@given(levels, levels, levels)
def test_merging_is_associative_and_of_its_hard_parts_commutative(
    a: Requirements, b: Requirements, c: Requirements
) -> None:
    assert a.merged(b).merged(c) == a.merged(b.merged(c))
    assert a.merged(b).residency == b.merged(a).residency
    assert a.merged(a) == a
    assert a.merged(Requirements()) == Requirements().merged(a) == a


@given(levels, levels)
def test_of_objectives_the_nearest_wins(outer: Requirements, nearer: Requirements) -> None:
    assert outer.merged(nearer).objective == (nearer.objective or outer.objective)


@given(residencies)
def test_a_residency_survives_its_journey_as_json(residency: Residency) -> None:
    held = Holder(residency=residency)
    assert Holder.model_validate_json(held.model_dump_json()) == held
    assert Holder.model_validate(held.model_dump()) == held


def test_a_residency_is_written_in_order() -> None:
    held = Holder(residency=Residency.of("EU,CH").narrowed(Residency.of("DE")))
    assert held.model_dump_json() == '{"residency":[["CH","EU"],["DE"]]}'


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"residency":{}}',
        '{"residency":null}',
        '{"residency":[[]]}',
        '{"residency":"EU"}',
        '{"residency":[["EU",7]]}',
    ],
)
def test_a_damaged_residency_is_no_residency(text: str) -> None:
    with pytest.raises(ValidationError):
        Holder.model_validate_json(text)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (None, "anywhere"),
        ("EU", "EU"),
        (" eu ", "EU"),
        ("eu, ch", "CH or EU"),
        (["EU", "CH"], "CH or EU"),
        (Residency.of("EU").narrowed(Residency.of("CH,DE")), "(CH or DE) and EU"),
    ],
)
def test_how_people_write_and_read_a_residency(
    written: str | list[str] | Residency | None, text: str
) -> None:
    assert str(Residency.of(written)) == text


@pytest.mark.parametrize("written", ["", " , ", [], [""], [" "]])
def test_a_residency_of_nothing_is_refused(written: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match="names no jurisdiction; give one"):
        Residency.of(written)


def test_a_residency_permits_regions() -> None:
    region = Region(name="zurich", coordinates=Coordinates(47.4, 8.5), country="CH", cell="eu")
    assert Residency().permits(region)
    assert Residency.of("EU,CH").permits(region)
    assert not Residency.of("EU").permits(region)
    assert not Residency.of("EU,CH").narrowed(Residency.of("EU")).permits(region)


def test_needs_name_offers() -> None:
    needs = Needs(model="chat", embedding="embed", collection="handbook", tool="rates")
    assert requirements(needs=needs).offers == {*KEYS, OfferKey("model", "embed")}
    assert requirements().offers == frozenset()
    with pytest.raises(ConfigurationError, match="a name is empty"):
        Needs(model=" ")


def test_an_objective_has_a_bound_in_milliseconds() -> None:
    assert Objective().latency_bound_ms is None
    assert Objective(price_under=timedelta(seconds=1.5)).latency_bound_ms == 1500
    with pytest.raises(ConfigurationError, match="price_under is not positive"):
        Objective(price_under=timedelta(0))
