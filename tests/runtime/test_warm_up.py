"""What a worker has done before it says that it is ready, and what cannot keep it from that."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.runtime import Runtime

from orchestrator import Application, EdgewardPlugin, step
from orchestrator.backends import Backends
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.warm_up import warm_backends, warm_types, warm_workflows
from orchestrator.topology import Offer, Region, Topology
from tests.backends import double as doubles
from tests.dispatch.conftest import server, three_regions
from tests.runtime.slow import application

DEAD = "http://127.0.0.1:1/v1"


@pytest.fixture
async def double() -> AsyncIterator[doubles.Double]:
    async with doubles.running() as running:
        yield running


def region(*offers: Offer) -> Region:
    frankfurt = three_regions("127.0.0.1:1", "127.0.0.1:2", {}).region("frankfurt")
    return frankfurt.model_copy(update={"offers": offers})


async def warmed(*offers: Offer, within: timedelta = timedelta(seconds=10)) -> dict[str, str]:
    """What became of each offer: ``offer.warm`` or ``offer.cold``."""
    with capture_logs() as logs:
        async with Backends(region(*offers)) as backends:
            await warm_backends(backends, within=within)
    # loops of other tests may log meanwhile
    return {line["offer"]: line["event"] for line in logs if "offer" in line}


async def test_a_model_is_asked_for_one_token(double: doubles.Double) -> None:
    double.answer_with(doubles.completion("H"))
    assert await warmed(Offer(kind="model", name="chat", endpoint=f"{double.url}/v1")) == {
        'model "chat"': "offer.warm"
    }
    (request,) = double.requests
    assert (request.path, request.json["max_tokens"]) == ("/v1/chat/completions", 1)


async def test_an_endpoint_that_does_not_chat_embeds(double: doubles.Double) -> None:
    vector = {"index": 0, "embedding": [1.0, 0.0]}
    double.answer_with(doubles.status(404), doubles.as_json({"data": [vector]}))
    assert await warmed(Offer(kind="model", name="embed", endpoint=f"{double.url}/v1")) == {
        'model "embed"': "offer.warm"
    }
    assert [request.path for request in double.requests] == ["/v1/chat/completions", "/v1/embeddings"]


@pytest.mark.parametrize(
    "costs",
    [{"secret_env": "WARM_UP_KEY"}, {"price": 0.1}, {"warm_up": False}],
    ids=lambda costs: next(iter(costs)),
)
async def test_a_model_that_may_cost_money_is_only_connected_to(
    double: doubles.Double, costs: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARM_UP_KEY", "key")
    double.answer_with(doubles.as_json({"data": [{"id": "chat"}]}))
    offer = Offer.model_validate({"kind": "model", "name": "chat", "endpoint": f"{double.url}/v1", **costs})
    assert await warmed(offer) == {'model "chat"': "offer.warm"}
    assert [request.path for request in double.requests] == ["/v1/models"]


async def test_a_collection_is_opened_and_a_tool_described(double: doubles.Double, tmp_path: Path) -> None:
    double.answer_with(doubles.as_json({"description": "adds", "parameters": {}}))
    handbook = Offer(kind="collection", name="handbook", endpoint=tmp_path.as_uri())
    adder = Offer(kind="tool", name="adder", endpoint=f"{double.url}/adder")
    # nobody filled the collection yet: that is noted, and the tool is warm all the same
    assert await warmed(handbook, adder) == {
        'collection "handbook"': "offer.cold",
        'tool "adder"': "offer.warm",
    }
    assert [(request.method, request.path) for request in double.requests] == [("GET", "/adder")]


async def test_what_is_away_or_slow_is_noted_and_left(double: doubles.Double) -> None:
    double.answer_with(doubles.silent)
    slow = Offer(kind="model", name="slow", endpoint=f"{double.url}/v1")
    dead = Offer(kind="model", name="dead", endpoint=DEAD)
    assert await warmed(slow, dead, within=timedelta(milliseconds=200)) == {
        'model "slow"': "offer.cold",
        'model "dead"': "offer.cold",
    }


async def test_workflow_tasks_run_in_and_out_of_the_sandbox() -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    with capture_logs() as logs:
        await warm_workflows(EdgewardPlugin(topology), Runtime.default())
    told = [line["event"] for line in logs if line["event"].startswith("workflows.")]
    assert told == ["workflows.warm"]


class Parcel(BaseModel):
    weight_g: int


class Noting(PydanticPayloadConverter):
    """Notes which types it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.hints: list[type] = []

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        self.hints += type_hints or []
        return super().from_payloads(payloads, type_hints)


def test_the_converter_knows_arguments_and_results() -> None:
    @step()
    async def send(parcel: Parcel) -> list[Parcel]:
        return [parcel]

    converter = Noting()
    warm_types(Application(steps=[send]), converter)
    assert converter.hints == [Parcel, list[Parcel]]


@asynccontextmanager
async def serving(topology: Topology) -> AsyncIterator[None]:
    worker = RegionWorker(topology, "frankfurt", application)
    running = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await running


async def until_ready(control: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(60):
        while True:
            try:
                if (await http.get(f"{control}/readyz")).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.01)


def with_offers(topology: Topology, *offers: Offer) -> Topology:
    regions = tuple(
        one.model_copy(update={"offers": offers}) if one.name == "frankfurt" else one
        for one in topology.regions
    )
    return topology.model_copy(update={"regions": regions})


async def test_a_worker_is_ready_when_its_models_were_asked_and_although_one_is_dead(
    double: doubles.Double, tmp_path: Path
) -> None:
    double.answer_with(doubles.completion("H"))
    chat = Offer(kind="model", name="chat", endpoint=f"{double.url}/v1")
    dead = Offer(kind="model", name="dead", endpoint=DEAD)
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    europe = server("europe")
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        topology = three_regions(europe.address, "127.0.0.1:1", {"frankfurt": control})
        async with serving(with_offers(topology, chat, dead)):
            await until_ready(control)
            asked = [(request.path, request.json["max_tokens"]) for request in double.requests]
            assert asked == [("/v1/chat/completions", 1)]


async def test_a_worker_takes_no_work_before_it_is_warm(double: doubles.Double, tmp_path: Path) -> None:
    answered = asyncio.Event()

    async def late(request: doubles.Request, writer: asyncio.StreamWriter) -> None:
        await answered.wait()
        await doubles.completion("H")(request, writer)

    double.answer_with(late)
    chat = Offer(kind="model", name="chat", endpoint=f"{double.url}/v1")
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    europe = server("europe")
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        topology = three_regions(europe.address, "127.0.0.1:1", {"frankfurt": control})
        async with serving(with_offers(topology, chat)), httpx.AsyncClient() as http:
            async with asyncio.timeout(60):
                while not double.requests:
                    await asyncio.sleep(0.01)
            ready = await http.get(f"{control}/readyz")
            assert (ready.status_code, "polling" in ready.json()["cells"].values()) == (503, False)
            answered.set()
            await until_ready(control)


async def test_a_worker_stops_while_it_warms_up(double: doubles.Double, tmp_path: Path) -> None:
    double.answer_with(doubles.silent)
    chat = Offer(kind="model", name="chat", endpoint=f"{double.url}/v1")
    topology = with_offers(three_regions("127.0.0.1:1", "127.0.0.1:2", {}), chat)
    async with asyncio.timeout(60), serving(topology):
        while not double.requests:
            await asyncio.sleep(0.01)
