"""Steps that judge between reports, answer from passages, and check an answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from activities.retrieval import RELEVANT, Passage
from activities.texts import cosine, is_repetitive, numbers, pairs, sentences, share, terms
from activities.values import Value
from orchestrator import Needs, backends, step
from orchestrator.backends import Message

MAX_TOKENS = 80
SUPPORTED = 0.75
"""Share of what an answer says anew that has to be in the passages."""

TOGETHER = 0.4
"""Share of an answer's pairs of neighbouring words that are neighbours in the passages or the
question too. Of right answers of SmolLM2-135M, none tried had less than 0.57; of those that
put the right words together wrongly, most have less than 0.4."""

NEAR = 0.85
"""Cosine similarity of an answer and the sentence of the passages next to it. Of
multilingual-e5-small, where two sentences about different things reach 0.8."""

ALSO_NEAR = 0.02
"""How much less similar than the best passage another may be to be answered from as well."""

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


class Report(Value):
    """What an expert found."""

    expert: str
    passages: tuple[Passage, ...] = ()


class Judgement(Value):
    """Which report bears on the question most, and why."""

    winner: int | None
    """Position among the reports; None where none bears on it."""

    passages: tuple[str, ...] = ()
    """The parts of it to answer from, by id."""

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
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=60), timedelta(milliseconds=300)),
)
async def check(question: str, text: str, passages: list[Passage]) -> Verdict:
    """Whether an answer holds against the passages it was given.

    Rules, not the opinion of a model: one small enough to answer quickly agrees with anything.
    An answer holds when it says something that the question did not, its numbers and most of
    its other new words are in the passages, enough of its words stand together there, and its
    meaning is near to one of their sentences. What this cannot see is a sentence of the passages
    that answers another question.
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
    together = share(pairs(text), pairs(" ".join([question, *(passage.text for passage in passages)])))
    if together < TOGETHER:
        return Verdict(holds=False, score=together / 2, reason=f"{together:.0%} of its word pairs are there")
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
async def judge(question: str, reports: list[Report]) -> Judgement:
    """The report with the passage that is nearest to the question, and that passage's neighbours.

    By meaning, not by a model's opinion of its colleagues: cosine similarity of the question and
    each passage. Passages that are nearly as near as the nearest are answered from too.
    """
    parts = [(number, passage) for number, report in enumerate(reports) for passage in report.passages]
    if not parts:
        return Judgement(winner=None, reason="no expert found anything")
    model = backends.model("embed")
    [asked] = await model.embed([question], purpose="query")
    vectors = await model.embed([passage.text for _, passage in parts])
    scores = [cosine(asked, vector) for vector in vectors]
    best = max(range(len(parts)), key=scores.__getitem__)
    winner = parts[best][0]
    if scores[best] < RELEVANT:
        return Judgement(winner=None, reason=f"no report is near the question ({scores[best]:.2f})")
    near = [
        passage.id
        for (number, passage), score in zip(parts, scores, strict=True)
        if number == winner and score >= scores[best] - ALSO_NEAR
    ]
    return Judgement(
        winner=winner,
        passages=tuple(near),
        reason=f"{reports[winner].expert} is nearest to the question ({scores[best]:.2f})",
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
