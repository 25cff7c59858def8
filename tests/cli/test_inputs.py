import io
import sys

import pytest
from pydantic import BaseModel
from temporalio import workflow

from orchestrator.cli.inputs import argument, read_input
from orchestrator.errors import ConfigurationError


class Question(BaseModel):
    question: str
    k: int = 5


class Numbers(BaseModel):
    first: int
    second: int


@workflow.defn
class TakesModel:
    @workflow.run
    async def run(self, question: Question) -> str: ...


@workflow.defn
class TakesText:
    @workflow.run
    async def run(self, text: str) -> str: ...


@workflow.defn
class TakesNumbers:
    @workflow.run
    async def run(self, numbers: Numbers) -> int: ...


@workflow.defn
class TakesList:
    @workflow.run
    async def run(self, words: list[str]) -> str: ...


@workflow.defn
class TakesNothing:
    @workflow.run
    async def run(self) -> str: ...


def test_text_becomes_the_field_that_must_be_given() -> None:
    assert argument(TakesModel, "What is a home?") == [Question(question="What is a home?")]
    assert argument(TakesModel, "42") == [Question(question="42")]


def test_a_json_object_is_the_whole_input() -> None:
    assert argument(TakesModel, '{"question": "Why?", "k": 3}') == [Question(question="Why?", k=3)]
    assert argument(TakesList, '["a", "b"]') == [["a", "b"]]


def test_a_string_is_taken_as_it_is() -> None:
    assert argument(TakesText, '{"not": "parsed"}') == ['{"not": "parsed"}']
    assert argument(TakesNothing, None) == []


@pytest.mark.parametrize(
    ("agent", "text", "told"),
    [
        (TakesModel, None, r"needs an input: --input TEXT, JSON or - \({question, k\?}\)"),
        (
            TakesModel,
            '{"question": "Why?", "k": "many"}',
            "k Input should be a valid integer.*takes {question",
        ),
        (TakesNumbers, "3", "input of TakesNumbers is a JSON object: {first, second}"),
        (TakesList, "a, b", "Invalid JSON.*it takes list"),
        (TakesNothing, "hello", "takes no input; leave --input out"),
    ],
)
def test_an_input_that_does_not_fit_is_told_what_would(agent: type, text: str | None, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        argument(agent, text)


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\n".encode())))
    assert read_input("-") == "Grüße"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        read_input("-")
    assert read_input("text") == "text"
