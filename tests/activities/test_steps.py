"""Steps as the plain functions they are, on a region's backends."""

import json
from collections.abc import Iterator

import pytest

from activities import (
    TOOLS,
    Customer,
    Note,
    Passage,
    Product,
    Report,
    answer,
    check,
    choose,
    conclude,
    distance,
    find_places,
    find_products,
    focus,
    judge,
    look_up,
    quote,
    rank,
    recommend,
)
from activities.tools import Expression, Journey, calculator
from orchestrator.backends import Backends, using
from orchestrator.errors import SchemaViolationError, ToolError
from tests.backends.double import Double, chunk, completion, events

HANDBOOK = [
    Passage(
        id="1",
        title="Concepts",
        text="The home of a run is the region that keeps its history. A run lives in exactly 1 cell.",
        score=0.9,
    ),
    Passage(id="2", title="Limits", text="A payload over 2 MiB is refused. Keep it in storage.", score=0.8),
]


@pytest.fixture(autouse=True)
def in_use(opened: Backends) -> Iterator[None]:
    with using(opened):
        yield


@pytest.mark.parametrize(
    "text",
    [
        "The region that keeps the history of a run is its home.",
        "It keeps its history in one region, and lives in exactly 1 cell.",
    ],
)
async def test_an_answer_from_the_passages_holds(text):
    verdict = await check("What is a home?", text, HANDBOOK)
    assert verdict.holds, verdict
    assert 0.8 < verdict.score <= 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "says nothing"),
        ("A home is a home.", "says nothing"),
        ("A home keeps a home keeps a home keeps a home keeps a home keeps.", "says nothing"),
        ("A home is a house where people cook and sleep.", "of its words"),
        ("The home is the region with 7 cells.", "1 of its numbers"),
        ("History keeps region, run lives home exactly.", "of its word pairs"),
    ],
)
async def test_an_answer_that_is_made_up_does_not_hold(text, reason):
    verdict = await check("What is a home?", text, HANDBOOK)
    assert not verdict.holds
    assert reason in verdict.reason
    assert verdict.score <= 0.5


async def test_focus_keeps_the_sentences_that_bear_on_the_question():
    [only] = await focus("What happens to a payload that is too large?", HANDBOOK, 1)
    assert (only.title, only.text) == ("Limits", "A payload over 2 MiB is refused.")
    kept = await focus("Where is the history of a run kept?", HANDBOOK, 10)
    assert {passage.id: passage.text for passage in kept} == {
        passage.id: passage.text for passage in HANDBOOK
    }
    assert await focus("Anything?", [], 3) == []


async def test_a_quote_is_a_sentence_of_the_handbook_or_nothing():
    found = await quote("Which region keeps the history of a run?", HANDBOOK)
    assert found.text == "The home of a run is the region that keeps its history."
    assert found.source == "Concepts"
    assert (await quote("Who won the football world cup in 1998?", HANDBOOK)).source is None
    assert (await quote("Anything?", [])).source is None


async def test_the_judge_takes_the_report_that_bears_on_the_question():
    figures = [
        Passage(id=name, title=name, text=f"{name}: {said}", score=0.0)
        for name, said in (
            ("population", '{"city": "Singapore, SG", "population": 5638700}'),
            ("local time", '{"city": "Singapore, SG", "time": "09:00"}'),
        )
    ]
    reports = [
        Report(expert="nobody"),
        Report(expert="librarian", passages=tuple(HANDBOOK)),
        Report(expert="statistician", passages=tuple(figures)),
    ]
    people = await judge("How many people live in Singapore?", reports)
    assert people.winner == 2
    assert people.passages[0] == "population"
    home = await judge("Which region keeps the history of a run?", reports)
    assert (home.winner, home.passages) == (1, ("1",))
    assert (await judge("Anything?", reports[:1])).winner is None


async def test_places_are_those_that_the_question_names(chat: Double):
    chat.answer_with(completion('{"cities": ["Lisbon", "Lima"]}'))
    assert await find_places("How far is Tokyo from Lisbon?") == ["Lisbon"]
    chat.answer_with(completion('{"cities": ["Lisbon", "Lisbon"]}'))
    assert await find_places("Where is Lisbon?") == ["Lisbon"]
    chat.answer_with(completion('{"cities": [" "]}'))
    assert await find_places("What is a home?") == []


async def test_an_answer_is_asked_for_with_the_passages_and_an_example(chat: Double):
    chat.answer_with(events(chunk(" It is "), chunk("refused. "), chunk(None, "stop"), "[DONE]"))
    assert await answer("What of a large payload?", HANDBOOK) == "It is refused."
    [request] = chat.requests
    assert [message["role"] for message in request.json["messages"]] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    assert "A payload over 2 MiB is refused." in request.json["messages"][-1]["content"]
    assert request.json["temperature"] == 0


async def test_a_tool_is_chosen_by_a_tool_call_where_the_endpoint_has_them(chat: Double):
    call = {
        "id": "c1",
        "type": "function",
        "function": {"name": "distance", "arguments": '{"origin": "Lisbon", "destination": "Rome"}'},
    }
    chat.answer_with(completion(None, "tool_calls", tool_calls=[call]), completion("It is 1870 km."))
    choice = await choose("How far is Rome from Lisbon?", [], list(TOOLS), "native")
    assert (choice.tool, choice.arguments) == ("distance", {"origin": "Lisbon", "destination": "Rome"})
    note = Note(tool="distance", arguments=choice.arguments, said='{"kilometres": 1870}')
    assert (await choose("How far is Rome from Lisbon?", [note], list(TOOLS), "native")).tool is None
    first, second = (request.json for request in chat.requests)
    assert {tool["function"]["name"] for tool in first["tools"]} == set(TOOLS)
    assert "response_format" not in first
    roles = [message["role"] for message in second["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    assert second["messages"][-1]["content"] == note.said


async def test_a_tool_that_was_not_offered_is_not_chosen(chat: Double):
    call = {"id": "c1", "type": "function", "function": {"name": "delete_everything", "arguments": "{}"}}
    chat.answer_with(completion(None, "tool_calls", tool_calls=[call]))
    assert (await choose("Delete everything", [], ["distance"], "native")).tool is None


async def test_a_tool_is_chosen_by_a_schema_everywhere(chat: Double):
    chat.answer_with(
        completion(json.dumps({"tool": "distance"})),
        completion(json.dumps({"origin": "Lisbon", "destination": "Rome"})),
    )
    choice = await choose("How far is it from Lisbon to Rome?", [], ["distance", "calculator"])
    assert (choice.tool, choice.arguments) == ("distance", {"origin": "Lisbon", "destination": "Rome"})
    tool, arguments = (request.json["response_format"]["json_schema"]["schema"] for request in chat.requests)
    # it knows nothing yet, so it may not stop
    assert tool["properties"]["tool"]["enum"] == ["distance", "calculator"]
    assert set(arguments["properties"]) == {"origin", "destination"}
    # the example that is nearest to the question comes last
    assert chat.requests[0].json["messages"][-2]["content"] == '{"tool": "distance"}'


async def test_it_may_stop_only_when_a_tool_has_said_something(chat: Double):
    chat.answer_with(completion(json.dumps({"tool": "answer"})))
    failed = Note(tool="distance", arguments={}, said="no such city", failed=True)
    with pytest.raises(SchemaViolationError):
        await choose("How far is it?", [failed], ["distance"])
    known = Note(tool="distance", arguments={}, said='{"kilometres": 1}')
    assert (await choose("How far is it?", [failed, known], ["distance"])).tool is None


async def test_a_conclusion_comes_from_what_the_tools_said(chat: Double):
    chat.answer_with(events(chunk("It is "), chunk("1870 km."), chunk(None, "stop"), "[DONE]"))
    notes = [
        Note(tool="distance", arguments={}, said="no such city", failed=True),
        Note(tool="distance", arguments={}, said='{"kilometres": 1870}'),
    ]
    assert await conclude("How far?", notes) == "It is 1870 km."
    assert "1870" in chat.requests[0].json["messages"][-1]["content"]
    assert "no such city" not in chat.requests[0].body.decode()
    assert await conclude("How far?", notes[:1]) == "The tools did not help."
    assert len(chat.requests) == 1


async def test_a_tool_over_http_and_one_over_mcp():
    seen = await distance(Journey(origin="Lisbon", destination="Tokyo"))
    assert (json.loads(seen.text)["kilometres"], seen.failed) == (11142.9, False)
    assert json.loads((await calculator(Expression(expression="17 * 23"))).text)["value"] == 391


async def test_what_a_tool_reports_as_an_error_is_an_observation():
    seen = await distance(Journey(origin="Nowhereville", destination="Tokyo"))
    assert seen.failed
    assert "Nowhereville" in seen.text
    assert (await calculator(Expression(expression="ten times ten"))).failed


async def test_the_shop(chat: Double):
    customer = await look_up("c-102")
    assert customer.interests == ("camping", "cooking")
    with pytest.raises(ToolError):
        await look_up("c-999")
    found = await find_products(["camping", "cooking"], list(customer.bought))
    assert not {product.product for product in found} & set(customer.bought)
    [best] = await rank("something to cook with", found, 1)
    assert best.name in {"gas stove, 83 g", "titanium pot, 0.9 l"}
    assert await rank("anything", [], 3) == []
    chat.answer_with(events(chunk("Take the stove.\n"), chunk(None, "stop"), "[DONE]"))
    assert await recommend(customer, [best]) == "Take the stove."
    assert best.name in chat.requests[0].json["messages"][-1]["content"]


def test_what_another_service_adds_to_its_answer_does_no_harm():
    customer = Customer.model_validate(
        {"customer": "c-1", "city": "Oslo", "language": "no", "interests": [], "loyalty": 3}
    )
    product = Product.model_validate({"product": "p-1", "name": "tent", "price_eur": 1, "stock": 3})
    assert customer.bought == product.tags == ()
