"""The ledger, which counts each effect of each step: ``python -m bench.chaos.ledger --port 8080``.

It is what a careful service behind a step does: an effect is booked once for an idempotency key, and
whoever comes again with the key gets the first answer. Every request is noted as well, so that what
ran twice is seen although it had its effect once. Times are of the machine's monotonic clock, which all
processes share and no scenario bends.
"""

import argparse
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator import current_step

ADDRESS = "EDGEWARD_CHAOS_LEDGER"
"""Environment variable of the workers: the ledger's URL."""

PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True)
class Effect:
    """One request for an effect."""

    order: int
    """Which run it belongs to: the number that its caller gave it."""

    what: str
    """Which of the run's effects; each of them shall happen once."""

    key: str
    """The step's idempotency key."""

    region: str
    """Whose worker sent it."""

    attempt: int
    run_id: str
    booked: bool
    """Whether it was the first with its key."""

    at_s: float
    """On the monotonic clock."""


class Ledger:
    """Books effects, in memory: it is the one part that no scenario breaks."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self._answers: dict[str, str] = {}

    def book(self, order: int, what: str, key: str, region: str, attempt: int, run_id: str) -> str:
        """What the effect gave; the first answer again if the key is known."""
        first = key not in self._answers
        answer = self._answers.setdefault(key, f"{what} {order}")
        self.effects.append(Effect(order, what, key, region, attempt, run_id, first, time.monotonic()))
        return answer

    def of(self, orders: range) -> list[Effect]:
        return [effect for effect in self.effects if effect.order in orders]


def application(ledger: Ledger) -> Starlette:
    async def book(request: Request) -> Response:
        body: dict[str, Any] = json.loads(await request.body())
        return Response(ledger.book(**body), media_type="text/plain")

    async def effects(request: Request) -> Response:
        orders = range(int(request.query_params["from"]), int(request.query_params["to"]))
        rows = [asdict(effect) for effect in ledger.of(orders)]
        return Response(json.dumps(rows), media_type="application/json")

    async def healthy(request: Request) -> Response:
        return Response()

    return Starlette(
        routes=[
            Route("/effects", book, methods=["POST"]),
            Route("/effects", effects),
            Route("/health", healthy),
        ]
    )


_clients: dict[int, httpx.AsyncClient] = {}


async def effect(order: int, what: str) -> str:
    """Has an effect in the name of the step that runs, with its idempotency key."""
    step = current_step()
    if step is None:
        raise RuntimeError("an effect is had by a step, in a worker")
    client = _clients.get(os.getpid())
    if client is None:
        # unlimited: a worker runs as many steps at a time as it has slots
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        client = httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, limits=limits)
        _clients[os.getpid()] = client
    answer = await client.post(
        f"{os.environ[ADDRESS]}/effects",
        json={
            "order": order,
            "what": what,
            "key": step.idempotency_key,
            "region": step.region,
            "attempt": step.attempt,
            "run_id": step.run_id,
        },
    )
    return answer.raise_for_status().text


async def effects_of(url: str, orders: range) -> Sequence[Effect]:
    """What was asked of the ledger for these runs, in the order of arrival."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{url}/effects", params={"from": orders.start, "to": orders.stop})
    rows = cast("Iterable[dict[str, Any]]", answer.raise_for_status().json())
    return [Effect(**row) for row in rows]


def serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args().port
    uvicorn.run(
        application(Ledger()),
        host="127.0.0.1",
        port=port,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=600,
    )


if __name__ == "__main__":
    serve()
