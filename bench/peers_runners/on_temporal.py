"""The five steps on a Temporal server: as an Edgeward agent, or with temporalio alone.

Both with the worker's settings of Edgeward. The caller is apart, on a connection of its own as
one in another process has it, or beside the worker, whose connection it shares: the first
workflow task then comes with the response to the start.
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


async def edgeward(port: int, address: str, caller: str) -> None:
    here = Topology(
        cells=(Cell(name="here", region="here", address=address, namespace="here"),),
        regions=(Region(name="here", coordinates=Coordinates(50.1, 8.7), country="DE", cell="here"),),
    )
    worker = RegionWorker(here, "here", application)
    async with (
        await EdgeClient.connect(
            here, application=application, watch=False, beside=None if caller == "apart" else worker
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):

        async def ask(number: int) -> int:
            return await client.execute(Inline.run, number, origin="here", early=caller == "early")

        tasks.create_task(worker.serve())
        await serve(port, ask)


async def temporalio(port: int, address: str, caller: str) -> None:
    async def connect() -> Client:
        return await Client.connect(address, namespace="here", data_converter=pydantic_data_converter)

    its_own = await connect()
    worker = Worker(
        its_own,
        task_queue=QUEUE,
        workflows=[Local],
        activities=[add_one],
        workflow_task_poller_behavior=POLLERS,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    )
    client = its_own if caller == "beside" else await connect()
    async with worker:

        async def ask(number: int) -> int:
            return await client.execute_workflow(
                Local.run,
                number,
                id=f"local-{uuid.uuid4().hex}",
                task_queue=QUEUE,
                request_eager_start=caller == "beside",
            )

        await serve(port, ask)


def main() -> None:
    given = options("address", "system", "caller")
    system = {"edgeward": edgeward, "temporalio": temporalio}[given.system]
    asyncio.run(system(given.port, given.address, given.caller))


if __name__ == "__main__":
    main()
