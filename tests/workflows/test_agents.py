"""Each agent that ships, on the real stack, over real distances."""

import asyncio

import pytest

from activities import TOOLS
from orchestrator import EdgeClient
from orchestrator.dev.shop import CUSTOMERS, PRODUCTS
from orchestrator.errors import PlacementError
from workflows.panel import Inquiry, Panel
from workflows.personalise import Personalise, Visit
from workflows.react import React, Task
from workflows.research import Question, Research

pytestmark = pytest.mark.timeout(600)

EUROPE = {"eu-central"}


async def places(run) -> dict[str, set[str | None]]:
    """Step to the places in which it ran; every step of these runs succeeded."""
    found: dict[str, set[str | None]] = {}
    for step in await run.steps():
        assert step.error is None, step
        found.setdefault(step.step, set()).add(step.place)
    return found


async def test_research_answers_from_the_handbook_and_stays_in_its_residency(edge: EdgeClient):
    run = await edge.start(
        Research.run, Question(question="What is the home of a run?"), origin="Lisbon", residency="EU"
    )
    answer = await run.result()
    where = await places(run)
    assert run.plan.home == "eu-central"
    assert set.union(*where.values()) == EUROPE
    assert {"retrieve", "focus", "answer", "check"} <= where.keys()
    # the model's own answer or a sentence of the handbook: either way, what the handbook says
    assert answer.grounded or "quote" in where
    assert "home" in answer.text.casefold()
    assert answer.sources
    assert 1 <= answer.rounds <= 2


async def test_research_says_when_the_handbook_does_not_know(edge: EdgeClient):
    question = Question(question="Who won the football world cup in 1998?", rounds=1)
    answer = await (await edge.start(Research.run, question, origin="Boston")).result()
    assert not answer.grounded
    assert answer.text == "The handbook does not say."
    assert answer.sources == ()
    assert answer.rounds == 1


async def test_research_streams_what_it_answers(edge: EdgeClient):
    run = await edge.start(Research.run, Question(question="What does residency mean?"), origin="Singapore")
    pieces = [piece async for piece in run.stream()]
    answer = await run.result()
    last = [piece for piece in pieces if piece.sequence == max(piece.sequence for piece in pieces)]
    assert {piece.step for piece in pieces} <= {"answer", "quote"}
    assert "".join(piece.text for piece in last).strip() == answer.text
    assert run.plan.home == "ap-southeast"


async def test_react_finds_a_distance_with_the_tool_for_it(edge: EdgeClient):
    task = Task(task="How far is it from Lisbon to Tokyo?")
    run = await edge.start(React.run, task, origin="Lisbon")
    finding = await run.result()
    assert finding.turns <= task.max_turns
    assert finding.notes[0].tool == "distance"
    assert "11142.9" in finding.notes[0].said
    assert "11142.9" in finding.text.replace(",", "")


async def test_react_uses_a_tool_where_it_is_offered(edge: EdgeClient):
    """Frankfurt has no tool ``population``, so the step leaves the region."""
    run = await edge.start(React.run, Task(task="How many people live in Singapore?"), origin="Frankfurt")
    finding = await run.result()
    assert [note.tool for note in finding.notes] == ["population"]
    assert "5638700" in finding.notes[0].said
    assert (await places(run))["population"] <= {"us-east", "ap-southeast"}


async def test_react_does_not_use_a_tool_outside_its_residency(edge: EdgeClient):
    task = Task(task="How many people live in Singapore?", tools=("population",), max_turns=2)
    run = await edge.start(React.run, task, origin="Frankfurt", residency="EU")
    finding = await run.result()
    assert {(note.said, note.failed) for note in finding.notes} == {("not allowed in this run", True)}
    assert finding.text == "The tools did not help."
    assert set.union(*(await places(run)).values()) == EUROPE


def test_react_refuses_a_tool_that_there_is_not():
    with pytest.raises(ValueError, match="telescope is no tool; choose from distance"):
        Task(task="Look at the stars", tools=("telescope",))


async def test_react_stops_at_its_bound(edge: EdgeClient):
    """No tool can do this, so every note is a failure, and the model may not say that it knows."""
    task = Task(task="What is the value of kindness?", tools=("calculator",), max_turns=2)
    finding = await (await edge.start(React.run, task, origin="Frankfurt")).result()
    assert finding.turns <= 2
    assert {note.tool for note in finding.notes} <= {"calculator"}
    assert finding.text


async def test_panel_gives_each_expert_the_home_that_is_best_for_it(edge: EdgeClient):
    """The statistician's tools are not in Frankfurt; beside them, both of its steps are inline."""
    question = Inquiry(question="How many people live in Singapore?")
    run = await edge.start(Panel.run, question, origin="Lisbon")
    decision = await run.result()
    homes = {below.agent: below.home for below in run.plan.root.handoffs.values()}
    assert run.plan.home == homes["librarian"] == homes["surveyor"] == "eu-central"
    assert homes["statistician"] == "us-east"
    steps = await run.steps()
    figures = [step for step in steps if step.agent == "statistician"]
    assert {(step.step, step.place, step.dispatch) for step in figures} == {
        ("population", "us-east", "inline"),
        ("local_time", "us-east", "inline"),
    }
    assert [report.expert for report in decision.reports] == ["librarian", "statistician", "surveyor"]
    assert decision.expert == "statistician"
    assert "5638700" in decision.text.replace(",", "")


async def test_panel_asks_its_librarian(edge: EdgeClient):
    run = await edge.start(Panel.run, Inquiry(question="What does residency mean?"), origin="Singapore")
    decision = await run.result()
    assert decision.expert == "librarian"
    assert "residency" in decision.text.casefold()
    assert [len(report.passages) > 0 for report in decision.reports] == [True, False, False]


async def test_a_panel_whose_expert_has_no_place_does_not_start(edge: EdgeClient):
    with pytest.raises(PlacementError, match=r"population|local_time|statistician") as refused:
        await edge.start(Panel.run, Inquiry(question="..."), origin="Lisbon", residency="EU")
    assert refused.value.rule in {"needs", "residency"}


async def test_personalise_suggests_what_fits_and_was_not_bought(edge: EdgeClient):
    customer = CUSTOMERS["c-102"]
    run = await edge.start(Personalise.run, Visit(customer="c-102"), origin="Hamburg", residency="EU")
    suggestion = await run.result()
    numbers = [product.product for product in suggestion.products]
    by_number = {product.number: product for product in PRODUCTS}
    assert 1 <= len(numbers) <= 3
    assert not set(numbers) & set(customer.bought)
    assert all(by_number[number].tags & set(customer.interests) for number in numbers)
    assert suggestion.text
    assert set.union(*(await places(run)).values()) == EUROPE


async def test_personalise_knows_what_is_wished_for(edge: EdgeClient):
    visit = Visit(customer="c-103", wish="rope", count=1)
    suggestion = await (await edge.start(Personalise.run, visit, origin="Boston")).result()
    assert [product.product for product in suggestion.products] == ["p-12"]


async def test_many_runs_at_a_time(edge: EdgeClient):
    runs = [
        await edge.start(Personalise.run, Visit(customer=number), origin=CUSTOMERS[number].city)
        for number in ("c-101", "c-104", "c-107")
    ]
    suggestions = await asyncio.gather(*(run.result() for run in runs))
    assert len({suggestion.products for suggestion in suggestions}) == len(runs)


def test_every_tool_explains_itself_to_a_model():
    for tool in TOOLS.values():
        assert tool.description.description
        for _, arguments in tool.examples:
            assert tool.takes.model_validate(arguments.model_dump()) == arguments
