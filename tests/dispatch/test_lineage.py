"""Keys of calls in runs that may be restarted: the same for the same call, whatever was called around it."""

import json

from temporalio.converter import DefaultPayloadConverter

from orchestrator.dispatch.lineage import (
    CallKeys,
    Lineage,
    lineage_in,
    lineage_of,
    with_lineage,
    with_memo,
)


def keys(lineage: Lineage) -> CallKeys:
    return CallKeys(lineage, DefaultPayloadConverter())


def test_the_order_of_calls_side_by_side_does_not_matter() -> None:
    run = Lineage.new()
    first, again = keys(run), keys(run.restarted("europe"))
    bread, milk = first.next("book", ["bread"]), first.next("book", ["milk"])
    assert bread != milk
    assert again.next("book", ["milk"]) == milk
    assert again.next("book", ["bread"]) == bread


def test_the_same_call_once_more_is_another_one() -> None:
    called = keys(Lineage.new())
    asked = [called.next("book", ["bread"]) for _ in range(3)]
    assert len(set(asked)) == 3
    assert called.next("ship", ["bread"]) not in asked


def test_arguments_are_told_apart_where_they_end() -> None:
    called = keys(Lineage.new())
    assert called.next("book", ["ab", "c"]) != called.next("book", ["a", "bc"])


def test_a_run_that_goes_on_as_a_new_one_has_other_keys() -> None:
    run = Lineage.new()
    assert keys(run).next("poll", []) != keys(run.went_on()).next("poll", [])
    assert keys(run.went_on()).next("poll", []) == keys(run.restarted("europe").went_on()).next("poll", [])


def test_a_sub_agent_belongs_to_its_run() -> None:
    run = Lineage.new()
    below = run.below(keys(run).next("Clerk", ["order"]))
    assert below.root == run.key
    assert run.restarted("europe").outlives(below)
    assert not below.outlives(run)
    assert not Lineage.new().restarted("europe").outlives(run), "another run"


def test_the_run_that_was_restarted_last_stands() -> None:
    first = Lineage.new().restarted("europe")
    assert first.restarted("america").outlives(first)
    assert not first.outlives(first)


def test_it_travels_and_damaged_ones_are_none() -> None:
    run = Lineage.new().restarted("europe")
    headers = with_lineage({}, run)
    assert lineage_of(headers) == run
    assert lineage_of({}) is None
    [payload] = headers.values()
    newer = json.loads(payload.data) | {"mood": "good"}
    payload.data = json.dumps(newer).encode()
    assert lineage_of(headers) == run
    payload.data = b"{"
    assert lineage_of(headers) is None
    assert lineage_in(with_memo({"theirs": 1}, run)) == run
    assert lineage_in({"theirs": 1}) is None
