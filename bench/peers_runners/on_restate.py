"""The five steps as a Restate service, and a client of Restate's ingress that asks for them."""

import asyncio
import signal

import httpx
from hypercorn.asyncio import serve as serve_http
from hypercorn.config import Config
from restate import Context, Service, app

from bench.peers_runners.protocol import STEPS, options, serve

five = Service("five")


async def add_one(number: int) -> int:
    return number + 1


@five.handler("run")
async def run(context: Context, number: int) -> int:
    for _ in range(STEPS):
        number = await context.run_typed("add_one", add_one, number=number)
    return number


async def main() -> None:
    given = options("service-port", "ingress-port", "admin-port")
    service = f"127.0.0.1:{given.service_port}"
    config = Config()
    config.bind = [service]
    async with (
        httpx.AsyncClient(limits=httpx.Limits(keepalive_expiry=None), timeout=60) as http,
        asyncio.TaskGroup() as tasks,
    ):

        async def ask(number: int) -> int:
            response = await http.post(f"http://127.0.0.1:{given.ingress_port}/five/run", json=number)
            return response.raise_for_status().json()

        tasks.create_task(serve_http(app([five]), config, shutdown_trigger=asyncio.Event().wait))
        # the server asks the service what it offers, again and again until it listens
        registered = await http.post(
            f"http://127.0.0.1:{given.admin_port}/deployments", json={"uri": f"http://{service}"}
        )
        registered.raise_for_status()
        # with its first request Restate's SDK takes SIGTERM for its own: this process must end by it
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        await serve(given.port, ask)


asyncio.run(main())
