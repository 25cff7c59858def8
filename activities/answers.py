"""Steps that answer from passages, check an answer, and judge between answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from activities.retrieval import Passage
from activities.texts import cosine, is_repetitive, numbers, sentences, share, terms
from activities.values import Value
from orchestrator import Needs, backends, emit, step
from orchestrator.backends import Message

MAX_TOKENS = 80
SUPPORTED = 0.75
"""Share of what an answer says anew that has to be in the passages."""

NEAR = 0.85
"""Cosine similarity of an answer and the sentence of the passages next to it. Of
multilingual-e5-small, where two sentences about different things reach 0.8."""

EXAMPLE = (
    Message.user(
        "Text: Lisbon lies on the Tagus. It has been the capital of Portugal since 1255. It lies on hills.\n"
        "Question: Since when has Lisbon been the capital?"
    ),
    Message.assistant("Lisbon has been the capital of Portugal since 1255."),
)
"""Small models copy an example better than they follow an instruction."""


class Verdict(Value):
    """What a check found."""

    holds: bool
    score: float
    """From 0 to 1, to compare answers by."""

    reason: str


class Opinion(Value):
    """An answer, who gave it, and what its check found."""

    panelist: str
    text: str
    verdict: Verdict
    sources: tuple[str, ...] = ()


class Judgement(Value):
    """Which opinion won, and why."""

    winner: int
    """Position among the opinions."""

    reason: str


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(seconds=1), timedelta(seconds=4)),
)
async def answer(question: str, passages: list[Passage]) -> str:
    """A short answer from the passages, streamed to the user as the model writes it."""
    reply = await backends.model("chat").chat_streaming(
        _prompt(question, passages), max_tokens=MAX_TOKENS, temperature=0, stop=["\n"]
    )
    return reply.text.strip()


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(seconds=1), timedelta(seconds=4)),
)
async def draft(question: str, passages: list[Passage]) -> str:
    """Like ``answer``, for another step to read: nothing of it goes to the user."""
    reply = await backends.model("chat").chat(
        _prompt(question, passages), max_tokens=MAX_TOKENS, temperature=0, stop=["\n"]
    )
    return reply.text.strip()


@step(
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=60), timedelta(milliseconds=300)),
)
async def check(question: str, text: str, passages: list[Passage]) -> Verdict:
    """Whether an answer holds against the passages it was given.

    Rules, not the opinion of a model: one small enough to answer quickly agrees with anything.
    An answer holds when it says something that the question did not, its numbers and most of
    its other new words are in the passages, and its meaning is near to one of their sentences.
    What this cannot see is an answer that puts the right words together wrongly.
    """
    asked, said = terms(question), terms(text)
    known = terms(" ".join(f"{passage.title} {passage.text}" for passage in passages))
    new = said - asked
    support = share(new, known)
    invented = numbers(text) - known - asked
    if not new or is_repetitive(text):
        return Verdict(holds=False, score=0.0, reason="it says nothing that the question did not")
    if invented:
        return Verdict(holds=False, score=support / 2, reason=f"{len(invented)} of its numbers are not there")
    if support < SUPPORTED:
        return Verdict(holds=False, score=support / 2, reason=f"{support:.0%} of its words are there")
    nearest = await _similarity(text, passages)
    return Verdict(
        holds=nearest >= NEAR,
        score=(support + nearest) / 2,
        reason=f"{support:.0%} of its words are there, similarity {nearest:.2f}",
    )


@step(
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=60), timedelta(milliseconds=300)),
)
async def judge(opinions: list[Opinion]) -> Judgement:
    """The opinion that is grounded best and that the others agree with most; it goes to the user.

    Only opinions that hold take part, if there are any. Agreement is the mean similarity to the
    other opinions, so that one that stands alone has to be grounded better than the rest.
    """
    vectors = await backends.model("embed").embed([opinion.text or "-" for opinion in opinions])
    in_play = [i for i, opinion in enumerate(opinions) if opinion.verdict.holds] or range(len(opinions))

    def agreement(i: int) -> float:
        others = [cosine(vectors[i], vectors[j]) for j in range(len(opinions)) if j != i]
        return sum(others) / len(others) if others else 1.0

    winner = max(in_play, key=lambda i: opinions[i].verdict.score + agreement(i))
    emit(opinions[winner].text)
    return Judgement(
        winner=winner,
        reason=f"{opinions[winner].panelist}: {opinions[winner].verdict.reason}, "
        f"agreement {agreement(winner):.2f}",
    )


def _prompt(question: str, passages: Sequence[Passage]) -> list[Message]:
    text = " ".join(passage.text for passage in passages)
    return [
        Message.system("Answer from the text in one short sentence."),
        *EXAMPLE,
        Message.user(f"Text: {text}\nQuestion: {question}"),
    ]


async def _similarity(text: str, passages: Sequence[Passage]) -> float:
    there = [sentence for passage in passages for sentence in sentences(passage.text)]
    said, *vectors = await backends.model("embed").embed([text, *there])
    return max((cosine(said, vector) for vector in vectors), default=0.0)
