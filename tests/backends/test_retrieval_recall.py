"""How often the right passage is among the five nearest: real questions, model and index."""

import pytest

from orchestrator.backends import Backends, Point
from orchestrator.topology.model import Offer
from tests.backends.conftest import region
from tests.xquad import passage_vectors, passages, questions

QUESTIONS = 200
NEAREST = 5
FLOOR = 0.9
"""Well below what is measured, 0.99: this notices a broken index, not a slightly worse model."""


# the vectors of a language take half a minute on two idle cores, minutes on busy ones
@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ["en", "de"])
async def test_recall_at_5(language, embedding_url, tmp_path, capsys, request):
    offers = (
        Offer(kind="model", name="embed", endpoint=f"{embedding_url}/v1"),
        Offer(kind="collection", name="handbook", endpoint=f"file://{tmp_path}/{language}"),
    )
    asked = questions(language, QUESTIONS)
    async with Backends(region(*offers)) as backends:
        embed, handbook = backends.model("embed").embed, backends.collection("handbook")
        vectors = await passage_vectors(language, embed, request.config.cache)
        points = [
            Point(id=passage["_id"], vector=tuple(vector), payload={"title": passage["title"]})
            for passage, vector in zip(passages(language), vectors, strict=True)
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
