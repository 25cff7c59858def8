"""A client process: executes the runs that its arguments name, all at a time, and ends."""

import asyncio
import contextlib
import json
import sys

from temporalio.client import WorkflowFailureError

from orchestrator import EdgeClient
from orchestrator.temporal_seams import workflow_run
from orchestrator.topology import load_topology
from tests.telemetry.agents import application


async def main(topology: str, runs: list[dict[str, str]]) -> None:
    async with await EdgeClient.connect(
        load_topology(topology), application=application, watch=False
    ) as edge:
        await asyncio.gather(*(execute(edge, **run) for run in runs))


async def execute(edge: EdgeClient, agent: str, id: str, text: str, origin: str) -> None:
    method = workflow_run(application.agent(agent))
    with contextlib.suppress(WorkflowFailureError):
        await edge.execute(method, text, origin=origin, id=id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
