import asyncio
import base64
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from orchestrator.dev import embedding_server, model_server
from orchestrator.dev.embedding_server import DIMENSIONS, LONGEST_TEXT, start_embedding_server
from orchestrator.dev.model_server import SLOTS, TOKENS_PER_SLOT, start_model_server
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.weights import chat_weights
from orchestrator.errors import StackError


@pytest.fixture(scope="module")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[str, str]]:
    """Base addresses of the chat model and of the embedding model."""
    chat, embed = free_ports(2)
    async with Supervisor(tmp_path_factory.mktemp("servers")) as supervisor:
        await asyncio.gather(
            start_model_server(supervisor, port=chat, threads=1, weights=chat_weights()),
            start_embedding_server(supervisor, port=embed, threads=2),
        )
        yield f"http://127.0.0.1:{chat}/v1", f"http://127.0.0.1:{embed}/v1"


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        yield http


async def ask(http: httpx.AsyncClient, base: str, question: str) -> str:
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 40, "temperature": 0}
    answer = await http.post(f"{base}/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


async def test_the_model_answers_from_a_text(servers: tuple[str, str]) -> None:
    question = "Text: The cell of Frankfurt listens on port 7233. Question: On which port does it listen?"
    async with client() as http:
        # more at once than there are slots: the others wait
        answers = await asyncio.gather(*(ask(http, servers[0], question) for _ in range(SLOTS + 2)))
        names = (await http.get(f"{servers[0]}/models")).json()["data"]
    assert all("7233" in answer for answer in answers)
    assert [name["id"] for name in names] == [model_server.MODEL]


async def test_every_slot_holds_a_question_with_its_passages(servers: tuple[str, str]) -> None:
    async with client() as http:
        [model] = (await http.get(f"{servers[0]}/models")).json()["data"]
    assert model["meta"]["n_ctx"] == TOKENS_PER_SLOT >= 2048


async def embeddings(http: httpx.AsyncClient, base: str, **body: object) -> list[list[float]]:
    answer = await http.post(f"{base}/embeddings", json={"model": embedding_server.MODEL, **body})
    assert answer.status_code == 200, answer.text
    return [item["embedding"] for item in answer.json()["data"]]


def similarity(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


async def test_a_question_is_nearest_to_its_answer_in_another_language(servers: tuple[str, str]) -> None:
    passages = [
        "Eine Region ist ein Ort mit Arbeitern; sie hat Koordinaten und Angebote.",
        "Der Zug nach Lissabon fährt um neun Uhr ab.",
        "Tomaten brauchen viel Sonne und Wasser.",
    ]
    async with client() as http:
        [question] = await embeddings(http, servers[1], input="What is a region?", input_type="query")
        found = await embeddings(http, servers[1], input=passages, input_type="passage")
    assert len(question) == DIMENSIONS
    similarities = [similarity(question, passage) for passage in found]
    assert similarities.index(max(similarities)) == 0


async def test_concurrent_texts_do_not_mix(servers: tuple[str, str]) -> None:
    texts = [f"Region number {number} serves {number * 7} requests." for number in range(24)]
    async with client() as http:
        alone = [await embeddings(http, servers[1], input=text) for text in texts]
        together = await asyncio.gather(*(embeddings(http, servers[1], input=text) for text in texts))
        batch = await embeddings(http, servers[1], input=texts)
    assert together == alone
    assert [[vector] for vector in batch] == alone


async def test_base64_holds_the_same_numbers(servers: tuple[str, str]) -> None:
    async with client() as http:
        [numbers] = await embeddings(http, servers[1], input="Lisbon")
        [encoded] = await embeddings(http, servers[1], input="Lisbon", encoding_format="base64")
    assert isinstance(encoded, str)
    assert struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(encoded)) == tuple(numbers)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "Invalid JSON"),
        (b"{}", "input: Field required"),
        (b'{"input": []}', "input: Value error, is empty"),
        (b'{"input": [[1, 2]]}', "input: Value error, is no text"),
        (b'{"input": "x", "input_type": "song"}', "input_type: Input should be"),
        (b'{"input": "%s"}' % (b"b" * (LONGEST_TEXT + 1)), f"longer than {LONGEST_TEXT} characters"),
    ],
)
async def test_a_bad_request_is_refused(servers: tuple[str, str], body: bytes, reason: str) -> None:
    async with client() as http:
        answer = await http.post(f"{servers[1]}/embeddings", content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]["message"]


@pytest.mark.parametrize("server", ["model", "embedding"])
async def test_a_port_in_use_is_said_plainly(tmp_path: Path, server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Supervisor(tmp_path) as supervisor:
            with pytest.raises(StackError, match=f"{server}: its port is in use"):
                if server == "model":
                    await start_model_server(supervisor, port=port, threads=1, weights=chat_weights())
                else:
                    await start_embedding_server(supervisor, port=port, threads=1)


async def test_weights_that_are_none_are_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").write_text("nothing")
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(StackError, match=r"(?s)model: ended with status 1 .*cannot serve the model"):
            await start_model_server(
                supervisor, port=free_ports(1)[0], threads=1, weights=tmp_path / "weights.gguf"
            )
