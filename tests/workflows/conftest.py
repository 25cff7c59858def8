"""The embedded stack with the agents that ship: three regions, real servers, models, index and tools."""

from collections.abc import AsyncIterator

import pytest

from orchestrator import EdgeClient, Topology
from orchestrator.dev.stack import Stack, StackOptions
from tests.shared_data import CHECKOUT
from workflows import app


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    handbook = tuple(CHECKOUT / name for name in ("README.md", "docs/concepts.md", "docs/placement.md"))
    options = StackOptions(
        directory=tmp_path_factory.mktemp("stack"),
        app="workflows:app",
        docs=tuple(file for file in handbook if file.exists()),
        ui=False,
    )
    lines: list[str] = []
    async with Stack(options, progress=lines.append) as stack:
        yield stack


@pytest.fixture(scope="session")
async def topology(stack: Stack) -> Topology:
    return stack.topology


@pytest.fixture(scope="session")
async def edge(topology: Topology) -> AsyncIterator[EdgeClient]:
    # no probes: plans come from the topology's distances, and so are the same on a busy machine
    async with await EdgeClient.connect(topology, application=app, watch=False) as client:
        yield client
