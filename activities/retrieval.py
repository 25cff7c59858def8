"""Steps over the region's handbook: find passages, narrow them down, quote one."""

from __future__ import annotations

from datetime import timedelta

from activities.texts import cosine, sentences, share, terms
from activities.values import Value
from orchestrator import Needs, backends, emit, step

CANDIDATES = 12
"""Sentences that are embedded at most; which ones, shared words decide, because that costs nothing."""

RELEVANT = 0.8
"""Similarity of a question and the sentence nearest to it, below which the handbook does not know.
Of multilingual-e5-small: its cosines lie between 0.7 and 1."""


class Passage(Value):
    """A piece of the handbook."""

    id: str
    title: str
    text: str
    score: float
    """How near it is to the question: cosine similarity."""


class Quote(Value):
    """A sentence of the handbook, word for word."""

    text: str
    source: str | None
    """Title of its passage; None where nothing bears on the question."""


@step(
    needs=Needs(collection="handbook", embedding="embed"),
    timeout=timedelta(seconds=20),
    expected=(timedelta(milliseconds=25), timedelta(milliseconds=150)),
)
async def retrieve(question: str, k: int = 4, skip: int = 0) -> list[Passage]:
    """The passages nearest to a question, the nearest first.

    Args:
        question: What is asked, in any language that the embedding model knows.
        k: How many.
        skip: How many of the nearest to leave out, because they have been tried.
    """
    [vector] = await backends.model("embed").embed([question], purpose="query")
    hits = await backends.collection("handbook").search(vector, limit=skip + k)
    return [
        Passage(
            id=hit.id,
            title=str(hit.payload.get("title", "")),
            text=str(hit.payload.get("text", "")),
            score=hit.score,
        )
        for hit in hits[skip:]
    ]


@step(
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=150), timedelta(milliseconds=600)),
)
async def focus(question: str, passages: list[Passage], keep: int = 3) -> list[Passage]:
    """Narrows passages to the sentences that bear on the question.

    A small model answers well from three sentences and badly from three passages, and every
    token less is time gained.

    Args:
        question: What is asked.
        passages: What was found.
        keep: How many sentences stay, of all passages together.

    Returns:
        The passages that have one of them, with nothing else as their text; the nearest first.
    """
    kept: dict[str, Passage] = {}
    chosen: dict[str, list[str]] = {}
    for score, passage, sentence in (await _nearest(question, passages))[:keep]:
        kept.setdefault(passage.id, passage.model_copy(update={"score": score}))
        chosen.setdefault(passage.id, []).append(sentence)
    return [
        passage.model_copy(update={"text": _in_order(passage, chosen[id])}) for id, passage in kept.items()
    ]


@step(
    needs=Needs(model="embed"),
    timeout=timedelta(seconds=60),
    expected=(timedelta(milliseconds=150), timedelta(milliseconds=600)),
)
async def quote(question: str, passages: list[Passage]) -> Quote:
    """The sentence nearest to the question, word for word: what can be said when no answer holds."""
    found = await _nearest(question, passages)
    if not found or found[0][0] < RELEVANT:
        nothing = Quote(text="The handbook does not say.", source=None)
        emit(nothing.text)
        return nothing
    _, passage, sentence = found[0]
    emit(sentence)
    return Quote(text=sentence, source=passage.title)


def _in_order(passage: Passage, chosen: list[str]) -> str:
    return " ".join(sentence for sentence in sentences(passage.text) if sentence in chosen)


async def _nearest(question: str, passages: list[Passage]) -> list[tuple[float, Passage, str]]:
    """Similarity, passage and sentence, the nearest first."""
    asked = terms(question)
    found = [(passage, sentence) for passage in passages for sentence in sentences(passage.text)]
    # sorting is stable: among equals the better passage stays ahead
    found.sort(key=lambda pair: -share(asked, terms(pair[1])))
    found = found[:CANDIDATES]
    if not found:
        return []
    model = backends.model("embed")
    [wanted] = await model.embed([question], purpose="query")
    vectors = await model.embed([sentence for _, sentence in found], purpose="passage")
    scored = [
        (cosine(wanted, vector), passage, sentence)
        for (passage, sentence), vector in zip(found, vectors, strict=True)
    ]
    return sorted(scored, key=lambda item: -item[0])
