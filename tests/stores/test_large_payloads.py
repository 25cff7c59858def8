"""Large values of runs on a real server: kept in the region where they are made, read elsewhere."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1.external_storage_pb2 import ExternalStorageReference
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.converter import JSONProtoPayloadConverter

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.errors import PayloadTooLargeError, StoreUnavailableError, UnreadablePayloadError
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.stores import LARGEST_BYTES
from orchestrator.timing import timing_of
from orchestrator.topology import Cell, Offer, Region, Store, Topology
from tests.dispatch.conftest import server
from tests.dispatch.test_placed_runs import innermost
from tests.stores.agents import MEBIBYTE, Again, Listening, Measuring, Pressing, application
from tests.stores.conftest import Place


@pytest.fixture(scope="module")
async def cell(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CellServer]:
    europe = server("europe")
    async with Supervisor(tmp_path_factory.mktemp("cell")) as supervisor:
        await start_cell(europe, supervisor)
        yield europe


def regions(cell: CellServer, stores: dict[str, Store]) -> Topology:
    """Frankfurt is home, Dublin has the press, Ashburn is there, too."""
    press = Offer(kind="tool", name="press", endpoint="http://127.0.0.1:1/press")
    where = {"frankfurt": (50.1, 8.7, "DE"), "dublin": (53.3, -6.3, "IE"), "ashburn": (39.0, -77.5, "US")}
    return Topology(
        # one server that stands in both regions, so that a run can be bound to either
        cells=tuple(
            Cell(name=name, region=region, address=cell.address, namespace="europe")
            for name, region in (("europe", "frankfurt"), ("america", "ashburn"))
        ),
        regions=tuple(
            Region(
                name=name,
                coordinates=Coordinates(latitude, longitude),
                country=country,
                cell="america" if country == "US" else "europe",
                serves=("america",) if country == "US" else ("europe",),
                offers=() if name == "frankfurt" else (press,),
                store=stores.get(name),
            )
            for name, (latitude, longitude, country) in where.items()
        ),
    )


@pytest.fixture(scope="module")
async def topology(cell: CellServer, kept: Place) -> AsyncIterator[Topology]:
    topology = regions(cell, kept.stores)
    workers = [RegionWorker(topology, region.name, application, warm_up=False) for region in topology.regions]
    serving = [asyncio.create_task(worker.serve()) for worker in workers]
    yield topology
    for worker in workers:
        worker.stop()
    await asyncio.gather(*serving)


@pytest.fixture(scope="module")
async def edge(topology: Topology) -> AsyncIterator[EdgeClient]:
    async with await EdgeClient.connect(topology, application=application, watch=False) as client:
        yield client


@pytest.fixture
def emptied(kept: Place) -> Place:
    for region in kept.stores:
        kept.delete(region)
    return kept


@pytest.mark.parametrize("submitted", [False, True])
async def test_large_values_go_through_a_run_and_stay_where_they_were_made(
    edge: EdgeClient, emptied: Place, submitted: bool
) -> None:
    text = "x" * 4 * MEBIBYTE
    if submitted:
        run = edge.submit(Pressing.run, text, origin="frankfurt", residency="EU")
    else:
        run = await edge.start(Pressing.run, text, origin="frankfurt", residency="EU")
    assert run.plan.root.steps["enlarge"].chosen.region == "dublin"
    async with asyncio.timeout(60):
        assert await run.result() == "x" * 10 + "y" * 3 * MEBIBYTE
    at_home, pressed = emptied.objects("frankfurt"), emptied.objects("dublin")
    assert any(text[:1000].encode() in kept for kept in at_home), "the input is not kept at home"
    assert {b"y" * 1000 in kept for kept in pressed} == {True}
    assert len(pressed) == 1, "Dublin made one large value"
    history = await run.handle.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 100_000
    # its trace is that of any run
    assert [step.step for step in await run.steps()] == ["enlarge", "measure", "measure"]
    [completed] = [
        event.activity_task_completed_event_attributes
        for event in history.events
        if event.HasField("activity_task_completed_event_attributes")
    ]
    timing = timing_of(completed.result.payloads[0])
    assert timing is not None
    assert timing.region == "dublin"


async def test_a_large_input_goes_on_as_new(edge: EdgeClient, emptied: Place) -> None:
    async with asyncio.timeout(60):
        assert await edge.execute(Again.run, "x" * 3 * MEBIBYTE, origin="frankfurt") == 3 * MEBIBYTE


async def test_small_values_are_kept_in_history(edge: EdgeClient, emptied: Place) -> None:
    assert await edge.execute(Measuring.run, "x" * 100_000, origin="frankfurt") == 100_000
    assert emptied.objects("frankfurt") == []


async def test_a_home_without_a_store_refuses_and_nothing_is_kept_elsewhere(
    edge: EdgeClient, emptied: Place
) -> None:
    with pytest.raises(PayloadTooLargeError, match="give the region where it is made a store"):
        await edge.start(Measuring.run, "x" * 3 * MEBIBYTE, origin="ashburn", residency="US")
    assert emptied.objects("frankfurt") == emptied.objects("dublin") == []


async def test_a_place_without_a_store_fails_the_run_that_makes_a_large_value_there(
    edge: EdgeClient, emptied: Place
) -> None:
    with pytest.raises(WorkflowFailureError) as failed:
        await edge.execute(Pressing.run, "x", origin="ashburn", residency="US")
    assert innermost(failed.value).type == "PayloadTooLargeError"
    assert emptied.objects("frankfurt") == emptied.objects("dublin") == []


async def test_a_signal_is_kept_in_no_store(edge: EdgeClient, emptied: Place) -> None:
    run = await edge.start(Listening.run, origin="frankfurt", residency="EU")
    with pytest.raises(PayloadTooLargeError):
        await run.handle.signal(Listening.hear, "x" * 3 * MEBIBYTE)
    await run.handle.signal(Listening.hear, "x" * MEBIBYTE)
    assert await run.result() == MEBIBYTE
    assert emptied.objects("frankfurt") == []


async def test_what_no_store_takes_is_refused(edge: EdgeClient) -> None:
    with pytest.raises(PayloadTooLargeError, match="a store takes 50 MiB"):
        await edge.start(Measuring.run, "x" * (LARGEST_BYTES + 1), origin="frankfurt")


def reference(driver: str, **claim: str) -> Payload:
    payload = JSONProtoPayloadConverter().to_payload(
        ExternalStorageReference(driver_name=driver, claim_data=claim)
    )
    assert payload is not None
    payload.external_payloads.add().size_bytes = 1
    return payload


FORGED = {
    "another driver": reference("aws.s3driver", bucket="b", key="k"),
    "nothing said": reference("edgeward.frankfurt"),
    "a path outside": reference(
        "edgeward.frankfurt",
        bucket="frankfurt",
        key="../../etc/passwd",
        hash_algorithm="sha256",
        hash_value="0",
    ),
    "another bucket": reference(
        "edgeward.frankfurt", bucket="elsewhere", key="k", hash_algorithm="sha256", hash_value="0"
    ),
    "what was deleted": reference(
        "edgeward.frankfurt", bucket="frankfurt", key="k", hash_algorithm="sha256", hash_value="0"
    ),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_reference_to_what_is_not_there_fails_its_run(
    cell: CellServer, edge: EdgeClient, name: str
) -> None:
    raw = await Client.connect(cell.address, namespace="europe")
    handle = await raw.start_workflow(
        "Measuring", RawValue(FORGED[name]), id=f"forged-{uuid.uuid4().hex}", task_queue="frankfurt.agents"
    )
    with pytest.raises(WorkflowFailureError) as failed:
        async with asyncio.timeout(30):
            await handle.result()
    assert innermost(failed.value).type == "UnreadablePayloadError"
    assert await edge.execute(Measuring.run, "x", origin="frankfurt") == 1


async def test_a_client_of_an_emptied_store_is_told(edge: EdgeClient, emptied: Place) -> None:
    run = await edge.start(Pressing.run, "x" * 3 * MEBIBYTE, origin="frankfurt", residency="EU")
    await run.result()
    emptied.delete("dublin")
    with pytest.raises(UnreadablePayloadError, match="the store of region dublin does not have a payload"):
        async for event in run.handle.fetch_history_events():
            completed = event.activity_task_completed_event_attributes
            if completed.result.payloads:
                await edge.cell("europe").data_converter.decode(completed.result.payloads)


async def test_without_any_store_a_reference_fails_its_run(cell: CellServer) -> None:
    topology = regions(cell, {})
    elsewhere = topology.regions[0].model_copy(update={"name": "munich", "country": "DE"})
    topology = topology.model_copy(update={"regions": (*topology.regions, elsewhere)})
    topology = Topology.model_validate(topology.model_dump())
    worker = RegionWorker(topology, "munich", application, warm_up=False)
    serving = asyncio.create_task(worker.serve())
    raw = await Client.connect(cell.address, namespace="europe")
    handle = await raw.start_workflow(
        "Measuring",
        RawValue(FORGED["what was deleted"]),
        id=f"forged-{uuid.uuid4().hex}",
        task_queue="munich.agents",
    )
    with pytest.raises(WorkflowFailureError) as failed:
        async with asyncio.timeout(30):
            await handle.result()
    assert innermost(failed.value).type == "UnreadablePayloadError"
    worker.stop()
    await serving


async def test_a_store_that_is_away_is_told_and_tried_again(cell: CellServer, tmp_path, monkeypatch) -> None:
    """The client's own call fails; what a worker makes is tried again until the store is back."""
    monkeypatch.setenv("STORE_SECRET", "test:secret")
    away = Store(
        url="s3://frankfurt", endpoint="http://127.0.0.1:1", region="us-east-1", secret_env="STORE_SECRET"
    )
    async with await EdgeClient.connect(
        regions(cell, {"frankfurt": away}), application=application, watch=False
    ) as edge:
        with pytest.raises(StoreUnavailableError, match="the store of region frankfurt cannot be used"):
            await edge.start(Measuring.run, "x" * 3 * MEBIBYTE, origin="frankfurt")
