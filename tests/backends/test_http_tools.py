"""Tools behind a plain HTTP endpoint."""

import math
from datetime import timedelta

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from orchestrator import errors
from orchestrator.backends import Backends
from orchestrator.context import StepContext, running
from orchestrator.errors import Recovery
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import free_port, hosting, region

KILOMETRES = {"Lisbon": 0, "Porto": 274}
keys_seen: list[str | None] = []


async def distance(request: Request) -> JSONResponse:
    if request.method == "GET":
        return JSONResponse(
            {
                "name": "distance",
                "description": "Kilometres from Lisbon to a city",
                "parameters": {
                    "type": "object",
                    "properties": {"city": {"type": "string"}},
                    "required": ["city"],
                },
                "version": 3,
            }
        )
    keys_seen.append(request.headers.get("idempotency-key"))
    city = (await request.json()).get("city")
    if city not in KILOMETRES:
        return JSONResponse({"error": f"no city {city}"}, status_code=422)
    return JSONResponse({"city": city, "km": KILOMETRES[city]})


async def motto(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Fühl dich wohl.")


APPLICATION = Starlette(
    routes=[
        Route("/distance", distance, methods=["GET", "POST"]),
        Route("/motto", motto, methods=["POST"]),
    ]
)


@pytest.fixture(scope="module")
def tools_url():
    with hosting(APPLICATION) as url:
        yield url


@pytest.fixture
async def tools(tools_url):
    offers = [
        Offer(kind="tool", name=name, endpoint=f"{tools_url}/{name}")
        for name in ("distance", "motto", "gone")
    ]
    async with Backends(region(*offers)) as backends:
        yield backends


@pytest.fixture
async def faulty(double):
    async with Backends(region(Offer(kind="tool", name="distance", endpoint=double.url))) as backends:
        yield backends.tool("distance")


def step(sequence: int) -> StepContext:
    return StepContext(
        workflow_id="w",
        run_id="run",
        step="look-up",
        activity_id="1",
        sequence=sequence,
        attempt=1,
        region="eu-central",
        dispatch="queue",
    )


async def test_a_tool_says_what_it_takes_and_answers(tools):
    described = await tools.tool("distance").describe()
    assert described.name == "distance"
    assert described.parameters["required"] == ["city"]
    result = await tools.tool("distance").call({"city": "Porto"})
    assert result.data == {"city": "Porto", "km": 274}
    assert result.text == '{"city": "Porto", "km": 274}'
    assert (await tools.tool("motto").call({})).text == "Fühl dich wohl."


async def test_a_step_sends_its_idempotency_key(tools):
    keys_seen.clear()
    await tools.tool("distance").call({"city": "Porto"})
    with running(step(4)):
        await tools.tool("distance").call({"city": "Porto"})
    assert keys_seen == [None, "run/4"]


async def test_a_tool_that_reports_an_error_says_it_to_the_model_and_not_to_the_log(tools):
    with pytest.raises(errors.ToolError) as failed:
        await tools.tool("distance").call({"city": "Private"})
    assert failed.value.recovery is Recovery.FINAL
    assert "no city Private" in failed.value.reported
    assert "Private" not in str(failed.value)
    assert failed.value.region == "eu-central"


async def test_a_tool_that_is_not_there(tools):
    with pytest.raises(errors.BackendRefusedError) as refused:
        await tools.tool("gone").call({})
    assert refused.value.status == 404


@pytest.mark.parametrize("arguments", [{"city": object()}, {"km": math.nan}])
async def test_arguments_that_are_no_json(faulty, double, arguments):
    with pytest.raises(errors.ConfigurationError, match="JSON"):
        await faulty.call(arguments)
    assert double.requests == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (doubles.status(500), errors.BackendFaultError),
        (doubles.status(429, retry_after="3"), errors.BackendOverloadedError),
        (doubles.status(403), errors.BackendRefusedError),
        (doubles.status(200), errors.MalformedResponseError),
        (doubles.status(200, "{"), errors.MalformedResponseError),
        (doubles.status(200, b"\xff", "text/plain"), errors.MalformedResponseError),
        (doubles.hang_up, errors.BackendUnreachableError),
    ],
)
@pytest.mark.parametrize("way", ["call", "describe"])
async def test_each_failure_has_its_type(faulty, double, answer, kind, way):
    double.answer_with(answer)
    with pytest.raises(kind) as failed:
        await (faulty.call({}) if way == "call" else faulty.describe())
    assert type(failed.value) is kind
    assert failed.value.endpoint == f"{double.url}"


async def test_a_description_that_is_none(faulty, double):
    for answer in ["text", {"description": 3}, {"parameters": "many"}]:
        double.answer_with(doubles.as_json(answer))
        with pytest.raises(errors.MalformedResponseError):
            await faulty.describe()


async def test_silence_and_nobody(faulty, double):
    double.answer_with(doubles.silent)
    with pytest.raises(errors.BackendTimeoutError):
        await faulty.call({}, timeout=timedelta(seconds=0.1))
    offer = Offer(kind="tool", name="distance", endpoint=f"http://127.0.0.1:{free_port()}/")
    async with Backends(region(offer)) as backends:
        with pytest.raises(errors.BackendUnreachableError):
            await backends.tool("distance").call({})


async def test_a_call_without_key_is_not_sent_twice(faulty, double):
    """The connection dies under a call: without a key, the tool could not tell the second from a new one."""
    answers = [doubles.as_json(1), doubles.hang_up, doubles.as_json(2)]
    double.answer_with(*answers)
    await faulty.call({})
    with pytest.raises(errors.BackendUnreachableError):
        await faulty.call({})
    assert len(double.requests) == 2
    double.answer_with(*answers)
    with running(step(1)):
        await faulty.call({})
        assert (await faulty.call({})).data == 2
    assert len(double.requests) == 5
