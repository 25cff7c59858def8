"""What every broker does, in memory and over a bus, and what only the one in memory does."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.dev.nats_server import start_nats
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.geography import Coordinates
from orchestrator.runtime import bus, pieces, pieces_bus
from orchestrator.runtime.pieces import PieceBroker, first_number, piece_broker
from orchestrator.streams import NumberedPiece, StreamPiece
from orchestrator.topology import Region


def piece(text: str) -> StreamPiece:
    return StreamPiece(text=text, step="answer", sequence=1, attempt=1, place="eu", workflow_id="w")


def region(bus: str | None = None, name: str = "eu") -> Region:
    return Region(name=name, coordinates=Coordinates(50, 8), country="DE", cell="eu", bus=bus)


async def listened(
    broker: PieceBroker, workflow_id: str, count: int, *, after: int = 0
) -> list[NumberedPiece]:
    """The first pieces after a number, as many as asked for, whenever they come."""
    heard: list[NumberedPiece] = []
    listening = broker.listen(workflow_id, after=after)
    async with asyncio.timeout(30):
        async for numbered in listening:
            heard += [numbered] if numbered else []
            if len(heard) == count:
                break
    await listening.aclose()
    return heard


async def there(broker: PieceBroker, workflow_id: str, *, after: int = 0) -> list[NumberedPiece]:
    listening = broker.listen(workflow_id, after=after, follow=False)
    return [numbered async for numbered in listening if numbered]


def texts(heard: list[NumberedPiece]) -> list[str]:
    return [numbered.piece.text for numbered in heard]


@pytest.fixture(scope="module")
async def bus_address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    folder: Path = tmp_path_factory.mktemp("bus")
    [port] = free_ports(1)
    async with Supervisor(folder) as supervisor:
        await start_nats(supervisor, port=port, folder=folder)
        yield f"nats://127.0.0.1:{port}"


@pytest.fixture(params=["memory", "bus"])
async def broker(request: pytest.FixtureRequest, bus_address: str) -> AsyncIterator[PieceBroker]:
    # a region of its own for each test: what one leaves on the bus is not another's
    name = f"eu-{uuid.uuid4().hex}"
    async with piece_broker(region(bus_address if request.param == "bus" else None, name)) as broker:
        yield broker


async def test_a_late_listener_gets_what_was_said_before(broker: PieceBroker) -> None:
    for text in "abc":
        broker.publish("w", piece(text))
    heard = await listened(broker, "w", 3)
    assert texts(heard) == ["a", "b", "c"]
    assert sorted({numbered.number for numbered in heard}) == [numbered.number for numbered in heard]
    assert heard == await there(broker, "w")
    assert await there(broker, "w", after=heard[1].number) == heard[2:]
    assert await there(broker, "w", after=heard[2].number) == []
    assert await there(broker, "other") == []


async def test_a_listener_may_be_there_before_the_run(broker: PieceBroker) -> None:
    listening = asyncio.create_task(listened(broker, "w", 2))
    other = asyncio.create_task(listened(broker, "w", 2))
    await listened_to_nothing_yet(broker)
    for text in "ab":
        broker.publish("w", piece(text))
    assert texts(await listening) == texts(await other) == ["a", "b"]


async def listened_to_nothing_yet(broker: PieceBroker) -> None:
    """Until those who began to listen before have been served once."""
    broker.publish("first", piece("x"))
    await listened(broker, "first", 1)


async def test_pieces_of_threads_keep_their_order_and_their_runs_apart(broker: PieceBroker) -> None:
    said = [str(number) for number in range(500)]

    def speak(workflow_id: str) -> None:
        for text in said:
            broker.publish(workflow_id, piece(text))

    listening = asyncio.create_task(listened(broker, "w", len(said)))
    await asyncio.gather(asyncio.to_thread(speak, "w"), asyncio.to_thread(speak, "v"))
    assert texts(await listening) == said
    assert texts(await listened(broker, "v", len(said))) == said


async def test_any_text_is_a_workflow_id(broker: PieceBroker) -> None:
    ids = ["a.b", "a b", "a/b", "*", ">", "日本", "A" * 1000, "a\nb"]
    for workflow_id in ids:
        broker.publish(workflow_id, piece(workflow_id))
    for workflow_id in ids:
        assert texts(await listened(broker, workflow_id, 1)) == [workflow_id]


async def test_a_quiet_listener_is_told_so(broker: PieceBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (pieces, bus, pieces_bus):
        monkeypatch.setattr(module, "QUIET", timedelta(milliseconds=200))
    listening = broker.listen("w")
    async with asyncio.timeout(10):
        assert [await anext(listening) for _ in range(3)] == [None, None, None]
    await listening.aclose()


async def test_numbers_go_on_after_a_new_start() -> None:
    async with piece_broker(region()) as before:
        before.publish("w", piece("a"))
        [first] = await there(before, "w")
    async with piece_broker(region()) as again:
        again.publish("w", piece("b"))
        assert texts(await there(again, "w", after=first.number)) == ["b"]
    assert first.number < first_number() < 2**53


async def test_quiet_runs_are_forgotten_and_followed_ones_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "RUNS", 2)
    async with piece_broker(region()) as broker:
        listening = [broker.listen(workflow_id) for workflow_id in ("v", "w", "followed")]
        waiting = [asyncio.create_task(anext(pieces)) for pieces in listening]
        await asyncio.sleep(0)  # they listen now
        for run in ("b", "c", "followed", "d"):
            broker.publish(run, piece(run))
        heard = await waiting[2]
        assert heard is not None
        assert heard.piece.text == "followed"
        assert await there(broker, "followed") == [heard]
        assert await there(broker, "b") == []
        for task in waiting[:2]:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_step_that_outlives_the_loop_may_still_publish() -> None:
    async with piece_broker(region()) as broker:
        pass
    loop = asyncio.new_event_loop()

    async def made() -> pieces.MemoryBroker:
        return pieces.MemoryBroker()

    orphan = await asyncio.to_thread(loop.run_until_complete, made())
    loop.close()
    orphan.publish("w", piece("a"))
    broker.publish("w", piece("a"))
