"""The five steps on a Temporal server: as an Edgeward agent, or with temporalio alone.

Both with the worker's settings of Edgeward, and the caller on a connection of its own, as
callers have one that are not the worker.
"""

import asyncio
import uuid

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from bench.peers_runners.five_steps import Inline, Local, add_one, application
from bench.peers_runners.protocol import options, serve
from orchestrator import EdgeClient
from orchestrator.geography import Coordinates
from orchestrator.runtime import RegionWorker
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT
from orchestrator.topology import Cell, Region, Topology

QUEUE = "plain.agents"


async def edgeward(port: int, address: str) -> None:
    here = Topology(
        cells=(Cell(name="here", region="here", address=address, namespace="here"),),
        regions=(Region(name="here", coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )
    async with (
        await EdgeClient.connect(here, application=application, watch=False) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(RegionWorker(here, "here", application).serve())

        async def ask(number: int) -> int:
            run = await client.start(Inline.run, number, origin="here")
            return await run.result()

        await serve(port, ask)


async def temporalio(port: int, address: str) -> None:
    async def connect() -> Client:
        return await Client.connect(address, namespace="here", data_converter=pydantic_data_converter)

    worker = Worker(
        await connect(),
        task_queue=QUEUE,
        workflows=[Local],
        activities=[add_one],
        workflow_task_poller_behavior=POLLERS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    )
    client = await connect()
    async with worker:

        async def ask(number: int) -> int:
            return await client.execute_workflow(
                Local.run, number, id=f"local-{uuid.uuid4().hex}", task_queue=QUEUE
            )

        await serve(port, ask)


def main() -> None:
    given = options("address", "system")
    asyncio.run({"edgeward": edgeward, "temporalio": temporalio}[given.system](given.port, given.address))


if __name__ == "__main__":
    main()
