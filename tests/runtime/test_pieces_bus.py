"""A real bus that is shared, goes away, comes back empty, asks for a secret, and is read slowly."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from orchestrator.dev.nats_server import start_nats
from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports
from orchestrator.errors import ConfigurationError
from orchestrator.geography import Coordinates
from orchestrator.runtime import bus, pieces_bus
from orchestrator.runtime.pieces import PieceBroker, piece_broker
from orchestrator.topology import Region
from tests.runtime.test_pieces import listened, piece, texts, there


def region(port: int, name: str = "eu", user: str = "", secret_file: Path | None = None) -> Region:
    return Region(
        name=name,
        coordinates=Coordinates(50, 8),
        country="DE",
        cell="eu",
        bus=f"nats://{user}127.0.0.1:{port}",
        bus_secret_file=secret_file,
    )


class Bus:
    """A server that can be killed and started again at its port."""

    def __init__(self, supervisor: Supervisor, folder: Path, port: int) -> None:
        self.port = port
        self._supervisor = supervisor
        self._folder = folder
        self._process: ChildProcess | None = None

    async def start(self, token: str | None = None) -> None:
        self._process = await start_nats(self._supervisor, port=self.port, folder=self._folder, token=token)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.exited()


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[Bus]:
    [port] = free_ports(1)
    async with Supervisor(tmp_path) as supervisor:
        yield Bus(supervisor, tmp_path / "jetstream", port)


async def until_heard(broker: PieceBroker, workflow_id: str, text: str, *, after: int = 0) -> None:
    """Says it again and again, until the bus has it: previews may get lost while a bus comes and goes."""
    async with asyncio.timeout(60):
        while text not in texts(await there(broker, workflow_id, after=after)):
            broker.publish(workflow_id, piece(text))
            await asyncio.sleep(0.05)


async def test_every_process_of_a_region_has_all_pieces_with_the_same_numbers(nats: Bus) -> None:
    await nats.start()
    shared = region(nats.port)
    async with piece_broker(shared) as one, piece_broker(shared) as two, piece_broker(shared) as three:
        one.publish("w", piece("a"))
        [first] = await listened(two, "w", 1)
        two.publish("w", piece("b"))
        heard = await listened(three, "w", 2)
        assert texts(heard) == ["a", "b"]
        assert heard == await listened(one, "w", 2) == await listened(two, "w", 2)
        # lost at one of them, a stream goes on at another
        assert await listened(three, "w", 1, after=first.number) == heard[1:]
        async with piece_broker(region(nats.port, "us")) as elsewhere:
            await until_heard(elsewhere, "v", "x")
            assert await there(elsewhere, "w") == []


async def test_a_bus_that_comes_later_gets_what_waited_for_it(nats: Bus) -> None:
    async with piece_broker(region(nats.port)) as broker:
        listening = asyncio.create_task(listened(broker, "w", 2))
        for text in "ab":
            broker.publish("w", piece(text))
        assert await there(broker, "w") == []
        await nats.start()
        assert texts(await listening) == ["a", "b"]


async def test_a_bus_that_is_killed_loses_previews_and_listeners_go_on_with_the_next(nats: Bus) -> None:
    await nats.start()
    shared = region(nats.port)
    with capture_logs() as logs:
        async with piece_broker(shared) as one, piece_broker(shared) as two:
            one.publish("w", piece("before"))
            listening = two.listen("w")
            first = await anext(listening)
            assert first is not None
            assert first.piece.text == "before"
            await nats.kill()
            for number in range(20):
                one.publish("w", piece(str(number)))
            await nats.start()
            await until_heard(one, "w", "after")
            heard: list[str] = []
            async with asyncio.timeout(60):
                async for numbered in listening:
                    heard += [numbered.piece.text] if numbered else []
                    assert numbered is None or numbered.number > first.number
                    if "after" in heard:
                        break
            await listening.aclose()
            # a memory of its own is gone with the bus, and its numbers still rise
            assert "before" not in texts(await there(two, "w"))
            assert "after" in texts(await there(two, "w", after=first.number))
    away = [line for line in logs if line["event"] == "bus.away"]
    assert len(away) == 2, "once a process, not once a piece or an attempt"


async def test_what_waits_for_the_bus_is_bounded_and_counted(
    nats: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces_bus, "OUTGOING", 3)
    with capture_logs() as logs:
        async with piece_broker(region(nats.port)) as broker:
            for number in range(10):
                broker.publish("w", piece(str(number)))
            await nats.start()
            assert texts(await listened(broker, "w", 3)) == ["7", "8", "9"]
    [connected] = [line for line in logs if line["event"] == "bus.connected"]
    assert connected["lost_pieces"] == 7


async def test_a_slow_listener_gets_everything_in_order(nats: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "READ_AHEAD", 2)
    monkeypatch.setattr(bus, "BEHIND", 20)
    await nats.start()
    said = [str(number) for number in range(200)]
    with capture_logs() as logs:
        async with piece_broker(region(nats.port)) as broker:
            for text in said:
                broker.publish("w", piece(text))
            await until_heard(broker, "other", "x")
            # the bus has them all, and sends them faster than they are read
            assert texts(await listened(broker, "w", len(said))) == said
    assert "bus.reading_again" in [line["event"] for line in logs]


async def test_a_piece_that_is_too_large_for_the_bus_is_left_out(nats: Bus) -> None:
    await nats.start()
    with capture_logs() as logs:
        async with piece_broker(region(nats.port)) as broker:
            broker.publish("w", piece("x" * 2_000_000))
            broker.publish("w", piece("small"))
            assert texts(await listened(broker, "w", 1)) == ["small"]
    assert "bus.piece_too_large" in [line["event"] for line in logs]


async def test_the_bus_forgets_a_listener_who_has_gone(tmp_path: Path) -> None:
    port, monitor = free_ports(2)
    folder = tmp_path / "jetstream"
    async with Supervisor(tmp_path) as supervisor, httpx.AsyncClient() as http:
        await start_nats(supervisor, port=port, folder=folder, monitor=monitor)

        async def consumers() -> int:
            return (await http.get(f"http://127.0.0.1:{monitor}/jsz")).json()["consumers"]

        async with piece_broker(region(port)) as broker:
            broker.publish("w", piece("a"))
            listening = broker.listen("w")
            assert await anext(listening)
            assert await consumers() == 1
            await listening.aclose()
            async with asyncio.timeout(30):
                while await consumers():
                    await asyncio.sleep(0.1)


async def test_a_bus_asks_for_its_secret(nats: Bus, tmp_path: Path) -> None:
    await nats.start(token="open-sesame")
    secret = tmp_path / "secret"
    secret.write_text("open-sesame\n")
    async with piece_broker(region(nats.port, secret_file=secret)) as broker:
        broker.publish("w", piece("let in"))
        assert texts(await listened(broker, "w", 1)) == ["let in"]
    with capture_logs() as logs:
        async with piece_broker(region(nats.port)) as broker, asyncio.timeout(30):
            while "bus.away" not in [line["event"] for line in logs]:
                await asyncio.sleep(0.02)
    assert "Authorization" in str(logs)
    assert "sesame" not in str(logs)


async def test_a_secret_that_cannot_be_read_is_said_at_the_start(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(ConfigurationError, match=r"region eu: its bus_secret_file .*missing cannot be read"):
        async with piece_broker(region(1, secret_file=missing)):
            pass
    unset = region(1).model_copy(update={"bus_secret_env": "EDGEWARD_TEST_UNSET"})
    with pytest.raises(
        ConfigurationError, match="bus_secret_env names EDGEWARD_TEST_UNSET, which is not set"
    ):
        async with piece_broker(unset):
            pass


async def test_a_bus_without_its_client_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orchestrator.runtime.pieces_bus")
    monkeypatch.setitem(sys.modules, "nats.aio.msg", None)
    with pytest.raises(ConfigurationError, match=r"nats-py is not installed; pip install 'edgeward\[nats\]'"):
        async with piece_broker(region(1)):
            pass


def test_what_the_bus_is_told_of_this_process(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame")
    with_user = region(4222, user="worker@", secret_file=secret)
    assert bus.address(with_user) == "nats://127.0.0.1:4222"
    assert bus.credentials(with_user) == {"user": "worker", "password": "open sesame"}
    assert bus.credentials(region(4222, secret_file=secret)) == {"token": "open sesame"}
    assert bus.credentials(region(4222)) == {}
    secret.write_text(f"{bus.JWT}\nx\n------END NATS USER JWT------\n")
    assert list(bus.credentials(region(4222, secret_file=secret))) == ["user_credentials"]
