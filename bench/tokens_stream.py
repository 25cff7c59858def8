"""A model's streamed answer, as a program without Edgeward reads it, and when its pieces arrived."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.dev.model_server import MODEL


@dataclass(frozen=True)
class Heard:
    """What a caller heard, and when: times of ``time.time_ns``."""

    text: str
    asked: int
    arrivals: tuple[int, ...]
    """Of the pieces; none where the text came whole."""

    @property
    def first_ms(self) -> float:
        return (self.arrivals[0] - self.asked) / 1e6

    @property
    def gaps_ms(self) -> list[float]:
        return [(b - a) / 1e6 for a, b in zip(self.arrivals, self.arrivals[1:], strict=False)]


async def streamed(http: httpx.AsyncClient, url: str, prompt: str, *, max_tokens: int) -> Heard:
    asked = time.time_ns()
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    texts: list[str] = []
    arrivals: list[int] = []
    async with http.stream("POST", url, json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            text = _content(line)
            if text:
                arrivals.append(time.time_ns())
                texts.append(text)
    return Heard("".join(texts), asked, tuple(arrivals))


def _content(line: str) -> str | None:
    if not line.startswith("data: {"):
        return None
    chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
    return chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
