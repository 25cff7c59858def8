"""A region with the real embedding model and tools, and a chat endpoint that a test puts words into."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.backends import Backends
from orchestrator.dev.embedding_server import start_embedding_server
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.tools import start_tools
from orchestrator.topology import Offer, Region
from tests.backends.double import Double, running


@pytest.fixture(scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    embedding, tools = free_ports(2)
    async with Supervisor(tmp_path_factory.mktemp("servers")) as supervisor:
        await start_embedding_server(supervisor, port=embedding, threads=1)
        await start_tools(supervisor, port=tools)
        yield {"embed": f"http://127.0.0.1:{embedding}/v1", "tools": f"http://127.0.0.1:{tools}"}


@pytest.fixture
async def chat(servers: dict[str, str]) -> AsyncIterator[Double]:
    """What a small model cannot do on demand: choose a tool by a tool call."""
    async with running() as double:
        yield double


@pytest.fixture
async def region(servers: dict[str, str], chat: Double) -> Region:
    tools = ("distance", "profile", "catalogue")
    return Region(
        name="eu-central",
        coordinates=(50.1, 8.7),
        country="DE",
        cell="frankfurt",
        offers=(
            Offer(kind="model", name="chat", endpoint=f"{chat.url}/v1"),
            Offer(kind="model", name="embed", endpoint=servers["embed"]),
            *(Offer(kind="tool", name=name, endpoint=f"{servers['tools']}/tools/{name}") for name in tools),
            Offer(kind="tool", name="calculator", endpoint=f"{servers['tools']}/mcp", protocol="mcp"),
        ),
    )


@pytest.fixture
async def opened(region: Region) -> AsyncIterator[Backends]:
    async with Backends(region) as opened:
        yield opened
