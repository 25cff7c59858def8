"""The fleet against real cells, real workers and a real control endpoint."""

import asyncio
import sys
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from structlog.testing import capture_logs
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from orchestrator.dev.processes import ChildProcess, Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.wan import DelayProxy
from orchestrator.errors import ConfigurationError, PlacementError
from orchestrator.fleet import Fleet, QueueStatus, StepTime, WorkerStatus
from orchestrator.fleet.readings import Heartbeat
from orchestrator.geography import Coordinates, Origin
from orchestrator.placement import AgentProfile, QueueReading, RunTime, StepProfile, plan
from orchestrator.queues import step_queue
from tests.fleet.conftest import INTERVAL, Cells, Endpoint, eventually
from tests.fleet.places import region, topology


def east_only(control: str | None = None) -> dict[str, object]:
    """A topology whose region ``west`` has this control endpoint and no other has one."""
    return {
        "topology": topology(region("east", control=None), region("west", control=control), region("south"))
    }


def state(fleet: Fleet, name: str) -> str:
    return fleet.snapshot().region(name).state


def beats(fleet: Fleet, cell: str) -> list[Heartbeat]:
    return list(fleet.view().readings.cells[cell].heartbeats.values())


# -- cells ------------------------------------------------------------------------------------


async def test_a_refresh_reads_the_round_trip_times_of_all_cells(cells: Cells) -> None:
    fleet = Fleet(**east_only(), clients=cells.clients, viewpoint="east")
    assert fleet.snapshot().rtt_ms == {}

    await fleet.refresh()

    rtt_ms = fleet.snapshot().rtt_ms
    assert rtt_ms.keys() == {("east", "east"), ("east", "west")}
    assert all(rtt > 0 for rtt in rtt_ms.values())
    assert fleet.view().cell_states() == {"east-cell": "up", "west-cell": "up"}


async def test_distance_shows_in_the_round_trip_time(cells: Cells) -> None:
    async with DelayProxy(cells.servers["west-cell"].address, timedelta(milliseconds=60)) as proxy:
        far = await Client.connect(proxy.address, namespace="west-cell")
        fleet = Fleet(**east_only(), clients={**cells.clients, "west-cell": far}, viewpoint="east")
        await fleet.refresh()
    rtt_ms = fleet.snapshot().rtt_ms
    assert rtt_ms["east", "west"] >= 60


async def test_without_a_viewpoint_own_round_trips_are_left_out(cells: Cells) -> None:
    fleet = Fleet(**east_only(), clients=cells.clients)
    await fleet.refresh()
    assert fleet.snapshot().rtt_ms == {}
    assert fleet.view().cell_states() == {"east-cell": "up", "west-cell": "up"}


async def test_a_cell_that_dies_goes_down_and_comes_back(supervisor: Supervisor, cells: Cells) -> None:
    server = CellServer("west-cell", *free_ports(3))
    process = await start_cell(server, supervisor)
    client = await Client.connect(server.address, namespace="west-cell")
    clients = {**cells.clients, "west-cell": client}
    async with Fleet(**east_only(), clients=clients, viewpoint="east", interval=INTERVAL) as fleet:
        await eventually(lambda: set(fleet.view().cell_states().values()) == {"up"})

        process.kill()
        await eventually(lambda: fleet.view().cell_states()["west-cell"] == "down")
        await eventually(lambda: ("east", "west") not in fleet.snapshot().rtt_ms)
        assert fleet.view().cell_states()["east-cell"] == "up"
        assert ("east", "east") in fleet.snapshot().rtt_ms

        await process.exited()
        await start_cell(server, supervisor)
        await eventually(lambda: fleet.view().cell_states()["west-cell"] == "up")


async def test_a_cell_that_never_answers_delays_no_other(cells: Cells) -> None:
    """Something accepts the connection and then says nothing: every probe takes its whole deadline."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as hole:
        port = hole.sockets[0].getsockname()[1]
        lost = await Client.connect(f"127.0.0.1:{port}", namespace="west-cell", lazy=True)
        clients = {**cells.clients, "west-cell": lost}
        deadline = timedelta(seconds=20)
        async with Fleet(**east_only(), clients=clients, interval=INTERVAL, deadline=deadline) as fleet:
            seen: set[object] = set()

            def renewed_three_times() -> bool:
                liveness = fleet.view().readings.cells.get("east-cell")
                if liveness:
                    seen.add(liveness.liveness.answered_at)
                return len(seen) >= 3

            await eventually(renewed_three_times)
            assert fleet.view().cell_states() == {"east-cell": "up", "west-cell": "unknown"}


async def test_a_cell_that_nobody_ever_reached_is_down(cells: Cells) -> None:
    lost = await Client.connect(f"127.0.0.1:{free_ports(1)[0]}", namespace="west-cell", lazy=True)
    clients = {**cells.clients, "west-cell": lost}
    async with Fleet(**east_only(), clients=clients, interval=INTERVAL, kinds=["model"]) as fleet:
        await eventually(lambda: fleet.view().cell_states() == {"east-cell": "up", "west-cell": "down"})


# -- workers ----------------------------------------------------------------------------------


async def test_backlog_slots_and_life_of_a_worker_without_a_control_endpoint(cells: Cells) -> None:
    release = asyncio.Event()

    @activity.defn
    async def wait() -> None:
        await release.wait()

    client = cells.clients["east-cell"]
    queue = step_queue("south", "model")
    fleet = Fleet(**east_only(), clients=cells.clients, kinds=["model", "tool"], interval=INTERVAL)
    async with fleet:
        await eventually(lambda: state(fleet, "south") == "down")  # nobody polls its queues

        worker = Worker(
            client,
            task_queue=queue,
            activities=[wait],
            max_concurrent_activities=2,
            graceful_shutdown_timeout=timedelta(seconds=30),
        )
        running = asyncio.create_task(worker.run())
        await eventually(lambda: state(fleet, "south") == "up")

        for number in range(8):
            await client.start_activity(
                wait,
                id=f"wait-{number}",
                task_queue=queue,
                start_to_close_timeout=timedelta(minutes=1),
            )
        await eventually(
            lambda: fleet.snapshot().region("south").queues.get("model") == QueueReading(6, slots=2, busy=2)
        )
        assert fleet.snapshot().region("south").queues["tool"] == QueueReading(0, slots=None, busy=0)

        ending = asyncio.create_task(worker.shutdown())
        await eventually(lambda: state(fleet, "south") == "draining")
        release.set()
        await ending
        await running
        await eventually(lambda: state(fleet, "south") == "down")


async def test_a_worker_that_is_killed_leaves_the_candidates(supervisor: Supervisor, cells: Cells) -> None:
    async def start() -> ChildProcess:
        script = str(Path(__file__).with_name("slow_worker.py"))
        address = cells.servers["west-cell"].address
        return await supervisor.start(
            "worker", [sys.executable, script, address, "west-cell", step_queue("west", "tool")]
        )

    async with Fleet(**east_only(), clients=cells.clients, kinds=["tool"], interval=INTERVAL) as fleet:
        worker = await start()
        await eventually(lambda: state(fleet, "west") == "up")
        # only its second heartbeat tells when the next one is due
        await eventually(lambda: any(beat.every for beat in beats(fleet, "west-cell")))
        worker.kill()
        await eventually(lambda: state(fleet, "west") == "down")
        await start()
        await eventually(lambda: state(fleet, "west") == "up")


async def test_more_queues_than_a_round_can_read_are_all_read_in_turn(cells: Cells) -> None:
    kinds = [f"kind-{number}" for number in range(24)]
    async with DelayProxy(cells.servers["west-cell"].address, timedelta(milliseconds=100)) as proxy:
        far = await Client.connect(proxy.address, namespace="west-cell")
        fleet = Fleet(
            **east_only(), clients={"west-cell": far}, kinds=kinds, deadline=timedelta(milliseconds=450)
        )
        await fleet.refresh()
        # a round trip takes 100 ms, eight queues are asked for at a time, and three regions serve the cell
        first_round = fleet.view().readings.queues.keys()
        assert len(first_round) <= 4 * 8 < 3 * len(kinds)
        async with asyncio.timeout(30):
            while len(fleet.view().readings.queues) < 3 * len(kinds):
                await fleet.refresh()


# -- control endpoints ------------------------------------------------------------------------


@pytest.fixture
def watching(endpoint: Endpoint, cells: Cells) -> Callable[[], AbstractAsyncContextManager[Fleet]]:
    def watch() -> Fleet:
        return Fleet(
            **east_only(endpoint.url),
            clients=cells.clients,
            viewpoint="east",
            interval=INTERVAL,
            kinds=["model"],
        )

    return watch


Watching = Callable[[], AbstractAsyncContextManager[Fleet]]


async def test_a_region_tells_what_it_does(endpoint: Endpoint, watching: Watching) -> None:
    endpoint.status = WorkerStatus(
        region="west",
        queues={"model": QueueStatus(slots=4, busy=3)},
        rtt_ms={"east": 91.5},
        run_times=(StepTime(step="answer", p50_ms=700, p95_ms=1900, samples=40),),
    )
    async with endpoint.serving(), watching() as fleet:
        await eventually(lambda: state(fleet, "west") == "up")
        await eventually(lambda: "model" in fleet.snapshot().region("west").queues)
        snapshot = fleet.snapshot()
    assert snapshot.region("west").queues == {"model": QueueReading(backlog=0, slots=4, busy=3)}
    assert snapshot.rtt_ms["west", "east"] == 91.5
    assert snapshot.run_times["answer", "west"] == RunTime(700, 1900, 40)


async def test_a_region_drains_goes_away_and_comes_back(endpoint: Endpoint, watching: Watching) -> None:
    states: list[str] = []

    def until(wanted: str, fleet: Fleet) -> Callable[[], bool]:
        def check() -> bool:
            seen = state(fleet, "west")
            if not states or states[-1] != seen:
                states.append(seen)
            return seen == wanted

        return check

    async with watching() as fleet:
        async with endpoint.serving():
            await eventually(until("up", fleet))
            endpoint.status = WorkerStatus(region="west", state="draining")
            await eventually(until("draining", fleet))
        await eventually(until("down", fleet))
        endpoint.status = WorkerStatus(region="west")
        async with endpoint.serving():
            await eventually(until("up", fleet))
    # it drained until it was down, and came back through the trial
    assert states[-4:] == ["draining", "down", "unknown", "up"]


async def test_distance_to_a_worker_is_measured_on_an_open_connection(endpoint: Endpoint) -> None:
    async with (
        endpoint.serving(),
        DelayProxy(f"127.0.0.1:{endpoint.port}", timedelta(milliseconds=60)) as proxy,
    ):
        fleet = Fleet(**east_only(f"http://{proxy.address}"), clients={}, viewpoint="east")
        await fleet.refresh()
    assert fleet.snapshot().rtt_ms["east", "west"] >= 60
    # opening the connection takes a round trip more, so the second request is the measured one
    (first, connection), (second, same_connection) = endpoint.connections
    assert (first, second) == ("/status", "/healthz")
    assert connection == same_connection


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: PlainTextResponse("oops", status_code=500), "HTTP 500"),
        (lambda: PlainTextResponse("", status_code=200), "no worker status: JSON"),
        (lambda: PlainTextResponse("<html>", status_code=200), "no worker status: JSON"),
        (lambda: JSONResponse({"region": "west", "queues": {"model": {"slots": -1}}}), "queues.model.slots"),
        (lambda: JSONResponse({"region": "south"}), "a worker of region 'south' answers there"),
        (lambda: Response(b"x" * 2_000_000), "longer than"),
        (lambda: Response(status_code=302, headers={"location": "/elsewhere"}), "HTTP 302"),
    ],
)
async def test_what_answers_nonsense_counts_as_silent_and_says_why(
    endpoint: Endpoint, watching: Watching, answer: Callable[[], Response], reason: str
) -> None:
    async with endpoint.serving(), watching() as fleet:
        await eventually(lambda: state(fleet, "west") == "up")
        endpoint.answer = answer
        await eventually(lambda: state(fleet, "west") == "down")
        assert reason in (fleet.view().readings.controls["west"].liveness.reason or "")
        endpoint.answer = None
        await eventually(lambda: state(fleet, "west") == "up")


async def test_an_endpoint_that_hangs_is_down_after_its_deadlines(endpoint: Endpoint) -> None:
    endpoint.silent = asyncio.Event()
    deadline = timedelta(milliseconds=100)
    async with (
        endpoint.serving(),
        Fleet(**east_only(endpoint.url), clients={}, interval=INTERVAL, deadline=deadline) as fleet,
    ):
        await eventually(lambda: state(fleet, "west") == "down")
        assert fleet.view().readings.controls["west"].liveness.reason == "no answer within 0.1 s"


def of_west(captured: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Lines about this region: loops of other tests may log meanwhile."""
    return [event for event in captured if event.get("region") == "west"]


async def test_an_operator_reads_what_changed_and_why(endpoint: Endpoint) -> None:
    with capture_logs() as captured:
        async with Fleet(**east_only(endpoint.url), clients={}, interval=INTERVAL) as fleet:
            await eventually(lambda: state(fleet, "west") == "down")
            async with endpoint.serving():
                await eventually(lambda: any(event.get("state") == "up" for event in of_west(captured)))
                events = of_west(captured)
    assert [event for event in events if event["event"] != "region.state"] == [
        {
            "event": "fleet.probe_failed",
            "log_level": "info",
            "region": "west",
            "reason": "connection refused",
        },
        {"event": "fleet.probe_answered", "log_level": "info", "region": "west", "failures": ANY},
    ]
    changes = [event for event in events if event["event"] == "region.state"]
    assert changes[0] == {
        "event": "region.state",
        "log_level": "warning",
        "region": "west",
        "state": "down",
        "previous": "unknown",
    }
    assert changes[-1]["state"] == "up"


# -- what it feeds ----------------------------------------------------------------------------


async def test_the_planner_leaves_out_a_region_that_went_down(endpoint: Endpoint, watching: Watching) -> None:
    agent = AgentProfile("research", steps=(StepProfile("answer", kind="model"),))
    origin = Origin(label="west", coordinates=Coordinates(50.1, 8.7), region="west")
    places = topology(region("east", control=None), region("west", control=endpoint.url))
    async with watching() as fleet:
        async with endpoint.serving():
            await eventually(lambda: state(fleet, "west") == "up")
            assert plan(agent, origin, places, fleet.snapshot()).home == "west"
        await eventually(lambda: state(fleet, "west") == "down")
        with pytest.raises(PlacementError) as error:
            plan(agent, origin, places, fleet.snapshot(), homes=["west"])
    assert error.value.excluded["west"].startswith("down")


# -- its own life -----------------------------------------------------------------------------


async def test_nothing_runs_on_after_it_ends(cells: Cells, watching: Watching) -> None:
    others = asyncio.all_tasks()  # of clients that other tests keep open

    def loops() -> list[str]:
        own = asyncio.all_tasks() - others
        return [task.get_name() for task in own if task.get_name().startswith("fleet:")]

    async with watching() as fleet:
        assert len(loops()) == 6  # two a cell, one for the region, one that notes states
        with pytest.raises(RuntimeError, match="already running"):
            await fleet.__aenter__()
    assert loops() == []
    async with fleet:
        assert len(loops()) == 6
    assert loops() == []


async def test_a_client_that_was_given_is_left_open(endpoint: Endpoint) -> None:
    async with httpx.AsyncClient() as http, endpoint.serving():
        fleet = Fleet(**east_only(endpoint.url), clients={}, http=http)
        await fleet.refresh()
        async with fleet:
            await eventually(lambda: endpoint.asked >= 4)
        assert not http.is_closed


async def test_a_snapshot_serves_for_a_moment_and_not_beyond_a_refresh(endpoint: Endpoint) -> None:
    fleet = Fleet(**east_only(endpoint.url), clients={}, interval=timedelta(hours=1))
    before = fleet.snapshot()
    assert fleet.snapshot() is before
    async with endpoint.serving():
        await fleet.refresh()
    assert state(fleet, "west") == "up"
    assert before.region("west").state == "unknown"


async def test_a_refresh_beside_the_loops_and_beside_another_refresh(endpoint: Endpoint) -> None:
    fleet = Fleet(**east_only(endpoint.url), clients={}, interval=INTERVAL)
    async with endpoint.serving():
        await asyncio.gather(fleet.refresh(), fleet.refresh())
        assert state(fleet, "west") == "up"
        async with fleet:
            await fleet.refresh()
            asked = endpoint.asked
            await eventually(lambda: endpoint.asked > asked)


async def test_what_cannot_be_used_is_refused(cells: Cells) -> None:
    places = east_only()
    client = cells.clients["east-cell"]
    with pytest.raises(ConfigurationError, match=r"unknown cell 'north-cell'.*\[cells.north-cell\]"):
        Fleet(**places, clients={"north-cell": client})
    with pytest.raises(
        ConfigurationError, match="viewpoint 'north' is no region; name one of east, south, west"
    ):
        Fleet(**places, clients={}, viewpoint="north")
    with pytest.raises(ConfigurationError, match="'Model' is no kind of step"):
        Fleet(**places, clients={}, kinds=["Model"])
    with pytest.raises(ConfigurationError, match="interval is 0:00:00"):
        Fleet(**places, clients={}, interval=timedelta())
