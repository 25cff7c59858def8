"""Tools of a real MCP server over streamable HTTP."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError as ServersToolError

from orchestrator import errors
from orchestrator.backends import Backends
from orchestrator.context import StepContext, running
from orchestrator.errors import Recovery
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import free_port, hosting, region

metas: list[object] = []
RATES = {"EUR": 1.0, "USD": 1.1}


def server() -> MCPServer:
    mcp = MCPServer("rates")

    @mcp.tool(description="How many of a currency one euro buys")
    def rate(currency: str) -> dict[str, float]:
        if currency not in RATES:
            raise ServersToolError(f"no currency {currency}")
        return {"rate": RATES[currency]}

    @mcp.tool()
    async def remember(context: Context) -> str:
        metas.append(context.request_context.meta)
        return "done"

    @mcp.tool()
    async def wait() -> str:
        await asyncio.sleep(60)
        return "late"

    @mcp.tool()
    def crash() -> str:
        raise RuntimeError("a private reason")

    return mcp


@pytest.fixture(scope="module", params=["sessions", "stateless"])
def mcp_url(request):
    with hosting(server().streamable_http_app(stateless_http=request.param == "stateless")) as url:
        yield f"{url}/mcp"


def offers(url: str, *names: str, **more: object) -> list[Offer]:
    return [
        Offer.model_validate({"kind": "tool", "name": name, "protocol": "mcp", "endpoint": url, **more})
        for name in names
    ]


@pytest.fixture
async def tools(mcp_url):
    names = ["rate", "remember", "wait", "crash", "unknown"]
    euro = Offer(kind="tool", name="euro", protocol="mcp", endpoint=mcp_url, target="rate")
    async with Backends(region(*offers(mcp_url, *names), euro)) as backends:
        yield backends


async def test_a_tool_says_what_it_takes_and_answers(tools):
    described = await tools.tool("euro").describe()
    assert described.name == "euro"
    assert described.description == "How many of a currency one euro buys"
    assert described.parameters["required"] == ["currency"]
    result = await tools.tool("euro").call({"currency": "USD"})
    assert result.data == {"rate": 1.1}
    assert "1.1" in result.text
    assert (await tools.tool("remember").call({})).text == "done"


async def test_many_steps_share_the_session(tools):
    results = await asyncio.gather(*(tools.tool("rate").call({"currency": "USD"}) for _ in range(20)))
    assert {result.data["rate"] for result in results} == {1.1}


async def test_a_step_sends_its_idempotency_key(tools):
    metas.clear()
    step = StepContext(
        workflow_id="w",
        run_id="run",
        step="look-up",
        activity_id="1",
        sequence=4,
        attempt=1,
        region="eu-central",
        dispatch="queue",
    )
    with running(step):
        await tools.tool("remember").call({})
    assert "run/4" in str(metas[0])


async def test_a_tool_that_reports_an_error_says_it_to_the_model_and_not_to_the_log(tools):
    with pytest.raises(errors.ToolError) as failed:
        await tools.tool("rate").call({"currency": "Private"})
    assert failed.value.recovery is Recovery.FINAL
    assert "no currency Private" in failed.value.reported
    assert "Private" not in str(failed.value)
    with pytest.raises(errors.ToolError):
        await tools.tool("crash").call({})
    with pytest.raises(errors.ToolError):
        await tools.tool("rate").call({"wrong": 1})


async def test_a_tool_that_the_server_does_not_have(tools):
    with pytest.raises(errors.BackendRefusedError, match=r"no tool 'unknown' \(it has rate, remember"):
        await tools.tool("unknown").describe()
    with pytest.raises(errors.BackendRefusedError) as refused:
        await tools.tool("unknown").call({})
    assert refused.value.recovery is Recovery.FINAL
    assert 'tool "unknown"' in str(refused.value)


async def test_a_call_that_takes_too_long_is_given_up_and_the_session_stays(tools):
    with pytest.raises(errors.BackendTimeoutError, match=r"within 0\.3 s"):
        await tools.tool("wait").call({}, timeout=timedelta(seconds=0.3))
    assert (await tools.tool("rate").call({"currency": "EUR"})).data == {"rate": 1.0}


async def test_a_cancelled_step_leaves_the_session_to_others(tools):
    call = asyncio.create_task(tools.tool("wait").call({}))
    await tools.tool("rate").call({"currency": "EUR"})
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert (await tools.tool("rate").call({"currency": "EUR"})).data == {"rate": 1.0}


@pytest.mark.parametrize("stateless", [True, False])
async def test_a_server_that_was_restarted_is_found_again(stateless):
    port = free_port()
    async with Backends(region(*offers(f"http://127.0.0.1:{port}/mcp", "rate"))) as backends:
        tool = backends.tool("rate")
        with pytest.raises(errors.BackendUnreachableError):
            await tool.call({"currency": "USD"})
        for _ in range(2):
            with hosting(server().streamable_http_app(stateless_http=stateless), port):
                await tool.describe()
                assert (await tool.call({"currency": "USD"})).data == {"rate": 1.1}
        with pytest.raises(errors.BackendUnreachableError) as down:
            await tool.call({"currency": "USD"})
    assert down.value.recovery is Recovery.ELSEWHERE
    assert down.value.region == "eu-central"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (doubles.status(500), errors.BackendFaultError),
        (doubles.status(429, retry_after="3"), errors.BackendOverloadedError),
        (doubles.status(401), errors.BackendRefusedError),
        (doubles.status(404), errors.BackendRefusedError),
        (doubles.status(200, "{"), errors.MalformedResponseError),
        (doubles.status(200, "<html>", "text/html"), errors.BackendRefusedError),
        (doubles.status(307, location="http://example.com/"), errors.BackendRefusedError),
        (doubles.hang_up, errors.StreamInterruptedError),
    ],
)
async def test_each_failure_has_its_type(double, answer, kind):
    double.answer_with(answer)
    async with Backends(region(*offers(double.url, "rate"))) as backends:
        with pytest.raises(errors.BackendError) as failed:
            await backends.tool("rate").call({})
    assert type(failed.value) is kind
    assert failed.value.endpoint == double.url
    if kind is errors.BackendOverloadedError:
        assert failed.value.retry_after == timedelta(seconds=3)


async def test_silence(double):
    double.answer_with(doubles.silent)
    async with Backends(region(*offers(double.url, "rate"))) as backends:
        with pytest.raises(errors.BackendTimeoutError):
            await backends.tool("rate").call({}, timeout=timedelta(seconds=0.2))


async def test_the_secret_goes_along(double, monkeypatch):
    double.answer_with(doubles.status(401))
    async with Backends(region(*offers(double.url, "rate", secret_env="RATES_KEY"))) as backends:
        with pytest.raises(errors.ConfigurationError, match="RATES_KEY"):
            await backends.tool("rate").call({})
        monkeypatch.setenv("RATES_KEY", "key-one")
        with pytest.raises(errors.BackendRefusedError, match="secret"):
            await backends.tool("rate").call({})
    assert double.requests[0].headers["authorization"] == "Bearer key-one"
