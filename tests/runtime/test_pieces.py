import asyncio

from orchestrator.runtime import pieces
from orchestrator.runtime.pieces import PieceBroker
from orchestrator.streams import StreamPiece


def piece(text: str) -> StreamPiece:
    return StreamPiece(text=text, step="answer", sequence=1, attempt=1, place="eu", workflow_id="w")


async def heard(broker: PieceBroker, workflow_id: str, *, after: int = 0) -> list[tuple[int, str]]:
    return [
        (numbered.number, numbered.piece.text)
        async for numbered in broker.listen(workflow_id, after=after, follow=False)
    ]


async def test_a_late_listener_gets_what_was_said_before() -> None:
    broker = PieceBroker()
    for text in "abc":
        broker.publish("w", piece(text))
    assert await heard(broker, "w") == [(1, "a"), (2, "b"), (3, "c")]
    assert await heard(broker, "w", after=2) == [(3, "c")]
    assert await heard(broker, "other") == []


async def test_listeners_follow_from_where_they_are_also_from_other_threads() -> None:
    broker = PieceBroker()
    broker.publish("w", piece("a"))
    texts: list[str] = []
    arrived = asyncio.Event()

    async def follow() -> None:
        async for numbered in broker.listen("w"):
            texts.append(numbered.piece.text)
            if len(texts) == 3:
                arrived.set()

    following = asyncio.create_task(follow())
    await asyncio.to_thread(broker.publish, "w", piece("b"))
    broker.publish("other", piece("x"))
    broker.publish("w", piece("c"))
    async with asyncio.timeout(5):
        await arrived.wait()
    following.cancel()
    assert texts == ["a", "b", "c"]


async def test_quiet_runs_are_forgotten_and_followed_ones_kept(monkeypatch) -> None:
    monkeypatch.setattr(pieces, "RUNS", 2)
    broker = PieceBroker()
    broker.publish("followed", piece("a"))
    listening = broker.listen("followed")
    assert (await anext(listening)).piece.text == "a"
    for run in ("b", "c", "d"):
        broker.publish(run, piece(run))
    assert await heard(broker, "followed") == [(1, "a")]
    assert await heard(broker, "b") == []
    await listening.aclose()
