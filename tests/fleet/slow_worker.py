"""A worker in a process of its own, to be killed: ``python slow_worker.py ADDRESS NAMESPACE QUEUE``."""

import asyncio
import sys
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client
from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.worker import Worker


@activity.defn
async def wait() -> None:
    await asyncio.Event().wait()


async def main(address: str, namespace: str, queue: str) -> None:
    runtime = Runtime(telemetry=TelemetryConfig(), worker_heartbeat_interval=timedelta(seconds=1))
    client = await Client.connect(address, namespace=namespace, runtime=runtime)
    await Worker(client, task_queue=queue, activities=[wait]).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
