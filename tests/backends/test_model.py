"""Models as they are: llama.cpp with SmolLM2, and multilingual E5."""

import math
from datetime import timedelta

import pytest
from pydantic import BaseModel

from orchestrator import backends
from orchestrator.backends import Backends, Message, ToolDescription, using
from orchestrator.context import StepContext, TokenAllowance, running
from orchestrator.errors import BackendRefusedError, BackendTimeoutError, BudgetExceededError
from orchestrator.topology.model import Offer
from tests.backends.conftest import region


class Capital(BaseModel):
    city: str
    country: str


@pytest.fixture
async def real(chat_url, embedding_url):
    offers = (
        Offer(kind="model", name="chat", endpoint=f"{chat_url}/v1"),
        Offer(kind="model", name="embed", endpoint=f"{embedding_url}/v1"),
    )
    async with Backends(region(*offers)) as backends:
        yield backends


ASKED = [
    Message.system("Answer in a few words."),
    Message.user("The capital of France is Paris. What is the capital of France?"),
]


async def test_a_model_answers_and_tells_what_it_used(real):
    reply = await real.model("chat").chat(ASKED, max_tokens=30, temperature=0)
    assert "Paris" in reply.text
    assert reply.finish_reason in {"stop", "length"}
    assert reply.usage.prompt_tokens > 10
    assert 0 < reply.usage.completion_tokens <= 30
    assert reply.message == Message.assistant(reply.text)


async def test_a_stream_says_the_same_in_pieces(real):
    whole = await real.model("chat").chat(ASKED, max_tokens=30, temperature=0)
    pieces = [piece async for piece in real.model("chat").stream(ASKED, max_tokens=30, temperature=0)]
    assert "".join(piece.text for piece in pieces) == whole.text
    assert len(pieces) > 2
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens


async def test_streaming_inside_a_step_shows_each_piece_to_the_user(real):
    shown: list[str] = []
    step = StepContext(
        activity_id="1",
        workflow_id="w",
        run_id="r",
        step="answer",
        sequence=1,
        attempt=1,
        region="eu-central",
        dispatch="queue",
        publish=lambda step, text: shown.append(text),
    )
    with running(step), using(real):
        reply = await backends.model("chat").chat_streaming(ASKED, max_tokens=20, temperature=0)
    assert len(shown) > 2
    assert "".join(shown) == reply.text


async def test_an_answer_keeps_the_schema(real):
    question = [Message.user("Paris is the capital of France. Name the city and the country as JSON.")]
    reply = await real.model("chat").chat(question, max_tokens=60, temperature=0, schema=Capital)
    assert reply.parsed.city == "Paris"
    streamed = await real.model("chat").chat_streaming(
        question, max_tokens=60, temperature=0, schema=Capital.model_json_schema(), schema_name="capital"
    )
    assert Capital.model_validate(streamed.parsed) == reply.parsed


async def test_tools_may_be_described_to_it(real):
    weather = ToolDescription(
        name="weather",
        description="The weather in a city",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    )
    # So small a model does not choose it; that the endpoint takes the request is what counts here.
    reply = await real.model("chat").chat(ASKED, max_tokens=10, temperature=0, tools=[weather])
    assert reply.finish_reason is not None


async def test_it_names_its_models_and_its_health(real, chat_url):
    assert await real.model("chat").health()
    assert len(await real.model("chat").models()) == 1
    assert await real.model("embed").health()
    assert "e5" in (await real.model("embed").models())[0]


async def test_an_embedding_for_each_text_by_purpose(real):
    model = real.model("embed")
    question = (await model.embed(["how much protein a day"], purpose="query"))[0]
    passages = await model.embed(
        ["Eat about 50 grams of protein each day.", "The river flows to the sea.", "Tea is a drink."]
    )
    assert {len(vector) for vector in [question, *passages]} == {384}
    likeness = (
        [math.sumprod(question, passage) for passage in passages]
        if hasattr(math, "sumprod")
        else [sum(a * b for a, b in zip(question, passage, strict=True)) for passage in passages]
    )
    assert likeness.index(max(likeness)) == 0
    assert question != (await model.embed(["how much protein a day"], purpose="passage"))[0]
    assert await model.embed([]) == []


async def test_more_texts_than_fit_one_request_come_back_in_order(real):
    texts = [f"number {count % 7}" for count in range(300)]
    vectors = await real.model("embed").embed(texts)
    assert len(vectors) == 300
    assert vectors[3] == pytest.approx(vectors[3 + 7 * 40], abs=1e-5)
    assert vectors[3] != pytest.approx(vectors[4], abs=1e-5)


async def test_a_question_longer_than_the_context_is_refused(real):
    with pytest.raises(BackendRefusedError) as refused:
        await real.model("chat").chat([Message.user("word " * 6000)], max_tokens=5)
    assert refused.value.status == 400
    assert "exceed_context_size" in str(refused.value)


async def test_a_real_answer_that_takes_too_long_is_given_up(real):
    with pytest.raises(BackendTimeoutError, match=r"within 0\.2 s.*region eu-central"):
        await real.model("chat").chat(
            [Message.user("Write a very long story about the sea.")],
            max_tokens=2000,
            timeout=timedelta(milliseconds=200),
        )
    assert await real.model("chat").health()


async def test_a_model_generates_no_more_than_its_step_has_left(real):
    allowance = TokenAllowance(12)
    step = StepContext("w", "r", "answer", "1", 1, 1, "here", "inline", tokens=allowance)
    question = [Message.user("Count from one to a hundred.")]
    with running(step):
        first = await real.model("chat").chat(question, max_tokens=8, temperature=0)
        assert 0 < first.usage.completion_tokens <= 8
        assert allowance.left == 12 - first.usage.completion_tokens
        second = await real.model("chat").chat_streaming(question, temperature=0)
        assert first.usage.completion_tokens + second.usage.completion_tokens <= 12
        allowance.left = 0
        with pytest.raises(BudgetExceededError):
            await real.model("chat").chat(question, max_tokens=1)
