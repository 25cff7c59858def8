"""Headers and metadata of ours, foreign, damaged or from a newer version."""

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload

from orchestrator.dispatch.headers import (
    ASSIGNMENT_HEADER,
    PLAN_HEADER,
    Assignment,
    assignment_of,
    plan_of,
    with_plan,
)
from orchestrator.dispatch.run_planner import RunPlanner
from orchestrator.errors import ConfigurationError
from orchestrator.requirements import Residency
from orchestrator.timing import TIMING, StepTiming, Stopwatch, timing_of
from tests.dispatch.agents import application
from tests.dispatch.conftest import three_regions
from tests.fuzz.profile import changed, fuzzed, json_values, mutated

_planner = RunPlanner(
    three_regions("127.0.0.1:1", "127.0.0.1:2", {}),
    agents=application.agent_definitions,
    steps=application.step_definitions,
)
PLAN = _planner.plan("Choir", "Lisbon")
PLAN_PAYLOAD = with_plan({}, PLAN)[PLAN_HEADER]
PLAN_JSON: dict[str, Any] = json.loads(zlib.decompress(PLAN_PAYLOAD.data))
ASSIGNMENT = Assignment(sequence=1, root_workflow_id="w", place="dublin", residency=Residency.of("EU"))
ASSIGNMENT_JSON = TypeAdapter(Assignment).dump_json(ASSIGNMENT)

encodings = st.sampled_from([b"json/zlib", b"json/plain", b"binary/encrypted", b"", b"\xff"]) | st.binary(
    max_size=4
)


def read(payload: Payload) -> None:
    for of, name in ((plan_of, PLAN_HEADER), (assignment_of, ASSIGNMENT_HEADER)):
        try:
            of({name: payload})
        except ConfigurationError as error:
            assert str(error).startswith(f"header {name} cannot be read")
            assert len(str(error)) < 1000


@fuzzed(300)
@given(
    data=mutated(PLAN_PAYLOAD.data) | mutated(ASSIGNMENT_JSON) | st.binary(max_size=60), encoding=encodings
)
def test_damaged_bytes(data: bytes, encoding: bytes) -> None:
    read(Payload(metadata={"encoding": encoding}, data=data))
    read(Payload(data=data))


@fuzzed(300)
@given(value=changed(PLAN_JSON) | changed(json.loads(ASSIGNMENT_JSON)) | json_values)
def test_another_structure(value: object) -> None:
    text = json.dumps(value).encode("utf-8", "surrogatepass")
    read(Payload(metadata={"encoding": b"json/zlib"}, data=zlib.compress(text)))
    read(Payload(metadata={"encoding": b"json/plain"}, data=text))


@pytest.mark.parametrize(
    "text", [b"[", b'{"root":', b"1", b" "], ids=["lists", "objects", "digits", "blanks"]
)
def test_a_bomb_is_cut_off(text: bytes) -> None:
    compress = zlib.compressobj(9)
    bomb = (
        b"".join(compress.compress(text * (1024 * 1024)) for _ in range(256 // len(text))) + compress.flush()
    )
    with pytest.raises(ConfigurationError):
        plan_of({PLAN_HEADER: Payload(metadata={"encoding": b"json/zlib"}, data=bomb)})


def newer(value: Any) -> Any:
    """The same with a field more in each object."""
    if isinstance(value, dict):
        more = {name: newer(item) for name, item in value.items()}
        # objects whose keys are names of steps or regions take no fields of ours
        named = all(isinstance(item, dict) for item in value.values())
        return more if named else {**more, "field_of_tomorrow": {"any": [1, None, "thing"]}}
    return [newer(item) for item in value] if isinstance(value, list) else value


def words(value: Any, changes: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: changes[key] if key in changes and isinstance(item, str) else words(item, changes)
            for key, item in value.items()
        }
    return [words(item, changes) for item in value] if isinstance(value, list) else value


def compressed(value: object) -> dict[str, Payload]:
    data = zlib.compress(json.dumps(value).encode())
    return {PLAN_HEADER: Payload(metadata={"encoding": b"json/zlib"}, data=data)}


def test_a_plan_of_a_newer_version_is_read() -> None:
    assert plan_of(compressed(newer(PLAN_JSON))) == PLAN
    assert plan_of(compressed({**PLAN_JSON, "version": 99})) == PLAN.model_copy(update={"version": 99})


def test_unknown_words_of_a_newer_version_are_taken_for_the_safe_ones() -> None:
    tomorrow = words(
        PLAN_JSON,
        {"dispatch": "teleport", "rule": "phase of the moon", "without_place": "ask", "kind": "own"},
    )
    read = plan_of(compressed(tomorrow))
    assert read is not None
    for agent in read.root.walk():
        assert agent.without_place == "wait"
        for step in agent.steps.values():
            assert {candidate.dispatch for candidate in step.candidates} <= {"queue"}
    text = ASSIGNMENT_JSON.replace(b'"queue"', b'"teleport"')
    assert b"teleport" in text
    payload = Payload(metadata={"encoding": b"json/plain"}, data=text)
    assert assignment_of({ASSIGNMENT_HEADER: payload}) == ASSIGNMENT


def test_what_says_where_data_may_be_is_never_guessed() -> None:
    for residency in (None, "EU", [[]], {"any": 1}, [1]):
        with pytest.raises(ConfigurationError):
            plan_of(compressed({**PLAN_JSON, "residency": residency}))


TIMED = Payload()
Stopwatch().write(TIMED, "dublin", 2.0)


@fuzzed(200)
@given(
    data=mutated(TIMED.metadata[TIMING])
    | st.binary(max_size=40)
    | json_values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
)
def test_a_timing_that_cannot_be_read_is_none(data: bytes) -> None:
    timing = timing_of(Payload(metadata={TIMING: data}))
    assert timing is None or isinstance(timing, StepTiming)
