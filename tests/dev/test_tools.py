import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from orchestrator.backends import Backends
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.serve_tools import LARGEST_BODY
from orchestrator.dev.tool_functions import OVER_HTTP, OVER_MCP
from orchestrator.dev.tools import start_tools
from orchestrator.errors import ToolError
from orchestrator.geography import Coordinates
from orchestrator.topology import Offer, Region


@pytest.fixture(scope="module")
async def tools(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    [port] = free_ports(1)
    async with Supervisor(tmp_path_factory.mktemp("tools")) as supervisor:
        await start_tools(supervisor, port=port)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def http(tools: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=tools, timeout=60, trust_env=False) as client:
        yield client


async def test_every_tool_over_http_describes_itself(http: httpx.AsyncClient) -> None:
    assert (await http.get("/tools")).json() == {"tools": list(OVER_HTTP)}
    for name in OVER_HTTP:
        described = (await http.get(f"/tools/{name}")).json()
        assert described["name"] == name
        assert described["description"].endswith(".")
        assert described["parameters"]["type"] == "object"
        assert described["parameters"]["required"]
        assert all(about["description"] for about in described["parameters"]["properties"].values())


async def test_tools_over_http_answer(http: httpx.AsyncClient) -> None:
    found = await http.post("/tools/distance", json={"origin": "Lisbon", "destination": "Tokyo"})
    assert found.status_code == 200
    assert found.json()["destination"] == "Tokyo, JP"
    times = await asyncio.gather(
        *(
            http.post("/tools/local-time", json={"city": city, "at": "2026-07-01T12:00:00Z"})
            for city in ("Lisbon", "Singapore", "New York")
        )
    )
    assert [time.json()["time"][11:16] for time in times] == ["13:00", "20:00", "08:00"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "no JSON"),
        (b"[]", 400, "no JSON object"),
        (b"{}", 422, "origin: Missing"),
        (b'{"origin": "Lisbon", "destination": "Xanadu Nowhere"}', 422, "unknown origin 'Xanadu Nowhere'"),
        (b'{"origin": "Lisbon", "destination": "Rome", "speed": 1}', 422, "speed: Unexpected"),
        (b" " * (LARGEST_BODY + 1), 413, "larger than"),
    ],
)
async def test_bad_arguments_are_said_plainly(
    http: httpx.AsyncClient, body: bytes, status: int, reason: str
) -> None:
    answer = await http.post("/tools/distance", content=body)
    assert answer.status_code == status
    assert reason in answer.json()["error"]


async def test_the_mcp_server_lists_its_tools(tools: str) -> None:
    async with Client(streamable_http_client(f"{tools}/mcp")) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(listed) == set(OVER_MCP)
    assert listed["unit-conversion"].description
    assert set(listed["unit-conversion"].input_schema["required"]) == {"value", "source", "target"}


async def test_a_region_reaches_both_kinds(tools: str) -> None:
    region = Region(
        name="eu",
        coordinates=Coordinates(50, 8),
        country="DE",
        cell="eu",
        offers=(
            Offer(kind="tool", name="profile", endpoint=f"{tools}/tools/profile"),
            Offer(kind="tool", name="calculator", endpoint=f"{tools}/mcp", protocol="mcp"),
        ),
    )
    async with Backends(region) as backends:
        known = await backends.tool("profile").call({"customer": "c-102"})
        assert isinstance(known.data, dict)
        assert known.data["interests"] == ["camping", "cooking"]
        assert (await backends.tool("profile").describe()).name == "profile"
        value = await backends.tool("calculator").call({"expression": "6 * 7"})
        assert isinstance(value.data, dict)
        assert value.data["value"] == 42
        assert "expression" in str((await backends.tool("calculator").describe()).parameters)
        for tool, arguments in (("profile", {"customer": "c-0"}), ("calculator", {"expression": "1 / 0"})):
            with pytest.raises(ToolError) as caught:
                await backends.tool(tool).call(arguments)
            assert caught.value.reported
