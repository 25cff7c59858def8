"""The workers of a home are killed: another region goes on with its runs, if their residency allows it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from temporalio.client import WorkflowExecutionStatus

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dispatch import RunPlanner
from orchestrator.requirements import Residency
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.cell_service import CellService
from orchestrator.runtime.control import serving
from orchestrator.runtime.standby import BACK_AFTER, GONE_AFTER, Standby
from orchestrator.topology import Offer, Region, Topology
from tests.dispatch.conftest import server, three_regions
from tests.runtime.test_worker_process import event, events, worker
from tests.runtime.waiting import Waiting, application, undemanding

APPLICATION = "tests.runtime.waiting:application"


@pytest.fixture
async def topology(tmp_path: Path) -> AsyncIterator[Topology]:
    """Frankfurt and Ashburn have a model; Dublin, which stands by for Frankfurt, has none."""
    europe = server("europe")
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        ports = free_ports(3)
        controls = {
            region: f"http://127.0.0.1:{port}"
            for region, port in zip(("frankfurt", "dublin", "ashburn"), ports, strict=True)
        }
        known = three_regions(europe.address, europe.address, dict(controls))
        model = Offer(kind="model", name="chat", endpoint="http://127.0.0.1:1/v1")
        yield Topology(
            cells=known.cells[:1],
            regions=tuple(
                Region.model_validate(
                    {
                        **region.model_dump(exclude={"cell", "offers"}),
                        "cell": "europe",
                        "offers": () if region.name == "dublin" else (model,),
                    }
                )
                for region in known.regions
            ),
            links=known.links,
        )


async def test_a_run_whose_home_was_killed_goes_on_in_the_region_that_stands_by(
    topology: Topology, tmp_path: Path
) -> None:
    others = [RegionWorker(topology, region, application, warm_up=False) for region in ("dublin", "ashburn")]
    running = [asyncio.create_task(other.serve()) for other in others]
    try:
        async with await EdgeClient.connect(topology, application=application, watch=False) as edge:
            async with worker(topology, tmp_path, application=APPLICATION) as home:
                lines = events(home)
                await event(lines, "queue.polled")
                free = await edge.start(Waiting.run, "", origin="frankfurt")
                bound = await edge.start(Waiting.run, "", origin="frankfurt", residency="DE")
                inside = await edge.start(Waiting.run, "DE", origin="frankfurt")
                for run in (free, bound, inside):
                    assert run.plan.home == "frankfurt"
                    await run.handle.query(Waiting.begun)
                home.kill()
                await home.wait()
            for run in (free, bound, inside):
                await run.handle.signal(Waiting.go_on)
            # what the home alone offers is done in the next place that has it
            assert await free.result() == ["dublin inline", "ashburn queue"]
            described = await bound.handle.describe()
            assert described.status is WorkflowExecutionStatus.RUNNING
            assert described.task_queue == "frankfurt.homebound"
            async with worker(topology, tmp_path, application=APPLICATION):
                assert await bound.result() == ["frankfurt inline", "frankfurt inline"]
                # the run may be in Dublin, this step may not: it has waited for its place
                assert await inside.result() == ["frankfurt queue"]
                await given_back(others[0])
    finally:
        for other in others:
            other.stop()
        await asyncio.gather(*running)


async def test_a_block_that_narrows_the_residency_binds_a_sub_agent_to_its_home() -> None:
    planner = RunPlanner(
        three_regions("127.0.0.1:1", "127.0.0.1:1", {}), agents=undemanding.agent_definitions
    )
    plan = planner.plan("Staying", "frankfurt", homes=["frankfurt"]).root
    assert not plan.homebound
    assert not plan.narrowed(Residency.of("EU")).homebound
    assert plan.narrowed(Residency.of("DE")).homebound


async def given_back(worker: RegionWorker) -> None:
    async with asyncio.timeout(30):
        while worker.standing_in():
            await asyncio.sleep(0.05)


class Serving:
    """Stands in for the workers that poll a home's queue."""

    def __init__(self) -> None:
        self.begun = 0

    async def serve(self, stopping: asyncio.Event, warm: asyncio.Event) -> None:
        self.begun += 1
        await stopping.wait()


async def test_a_home_that_wavers_is_taken_over_once() -> None:
    """One look that fails is not enough; nor is one that finds it ready again."""
    looks = [True, False, False, True, *[False] * GONE_AFTER, True, False, *[True] * BACK_AFTER]
    answers, seen = iter(looks), list[bool]()
    stopping, workers = asyncio.Event(), Serving()

    async def answer(request: Request) -> Response:
        seen.append(workers.begun > 0)
        ready = next(answers, None)
        if ready is None:
            stopping.set()
        return Response(status_code=200 if ready else 503)

    app = Starlette(routes=[Route("/healthz", answer), Route("/readyz", answer)])
    async with serving(app, "127.0.0.1", 0) as port:
        home = three_regions("127.0.0.1:1", "127.0.0.1:1", {"frankfurt": f"http://127.0.0.1:{port}"}).regions[
            0
        ]
        standby = Standby(home, lambda _: [cast("CellService", workers)], asyncio.Event())
        async with asyncio.timeout(60):
            await standby.watch(stopping)
    taken = 4 + GONE_AFTER
    assert seen == [False] * taken + [True] * (len(looks) + 1 - taken)
    assert workers.begun == 1
    assert not standby.stands_in
