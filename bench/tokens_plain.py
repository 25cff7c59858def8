"""The same model call from plain temporalio: what of the way to the model is Temporal's own.

``python -m bench.tokens_plain ADDRESS MODEL_PORT`` serves it beside Edgeward's workers, tuned like them.
"""

import asyncio
import signal
import sys
import time
import uuid
from datetime import timedelta

import httpx
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from bench.overhead import plain_client
from bench.tokens_agents import MODELS
from bench.tokens_stream import Heard, streamed
from orchestrator.dev.processes import Supervisor
from orchestrator.dispatch import TASK_TIMEOUT
from orchestrator.runtime import event_loop
from orchestrator.runtime.cell_service import POLLERS, STICKY_TIMEOUT

AGENTS, STEPS = "plain.agents", "plain.model"
TIMEOUT = timedelta(seconds=60)
READY = "polling"


class Model:
    """The step.

    Args:
        http: With a connection to the model that stays open.
        url: Of the model.
    """

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url

    @activity.defn(name="plain_model")
    async def answer(self, prompt: str) -> str:
        return (await streamed(self._http, self._url, prompt, max_tokens=MODELS["instant"])).text


@workflow.defn(sandboxed=False)
class PlainQueued:
    @workflow.run
    async def run(self, prompt: str) -> str:
        return await workflow.execute_activity(
            "plain_model", prompt, task_queue=STEPS, start_to_close_timeout=TIMEOUT, result_type=str
        )


@workflow.defn(sandboxed=False)
class PlainInline:
    @workflow.run
    async def run(self, prompt: str) -> str:
        return await workflow.execute_local_activity(
            "plain_model", prompt, start_to_close_timeout=TIMEOUT, result_type=str
        )


async def asked(client: Client, way: type[PlainQueued | PlainInline], prompt: str) -> Heard:
    """Starts a run and waits for its text: the model writes into it when the request arrived."""
    began = time.time_ns()
    text = await client.execute_workflow(
        way.run, prompt, id=f"plain-{uuid.uuid4().hex}", task_queue=AGENTS, task_timeout=TASK_TIMEOUT
    )
    return Heard(text, began, ())


async def start_plain_worker(supervisor: Supervisor, address: str, model_port: int) -> None:
    command = [sys.executable, "-m", "bench.tokens_plain", address, str(model_port)]
    process = await supervisor.start("worker plain", command)

    async def ready() -> bool:
        return READY in process.log_tail()

    await process.until_ready(ready, within=TIMEOUT)


async def serve(address: str, model_port: int) -> None:
    client = await plain_client(address)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with httpx.AsyncClient(limits=httpx.Limits(keepalive_expiry=None), timeout=60) as http:
        model = Model(http, f"http://127.0.0.1:{model_port}/v1/chat/completions")
        agents = Worker(
            client,
            task_queue=AGENTS,
            workflows=[PlainQueued, PlainInline],
            activities=[model.answer],
            workflow_task_poller_behavior=POLLERS,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        )
        steps = Worker(
            client, task_queue=STEPS, activities=[model.answer], activity_task_poller_behavior=POLLERS
        )
        async with agents, steps:
            print(READY, flush=True)
            await stopping.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2])))
