"""The ways to a model's tokens: asking its server directly, and through a run of Edgeward."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
from temporalio.client import Client

from bench.overhead import plain_client
from bench.tokens_agents import MODELS, Chat, Instant, InstantInline, application
from bench.tokens_plain import PlainInline, PlainQueued, asked, start_plain_worker
from bench.tokens_server import start_instant_server
from bench.tokens_stream import Heard, streamed
from orchestrator import EdgeClient, EdgeRun
from orchestrator.dev.model_server import MODEL, start_model_server
from orchestrator.dev.nats_server import start_nats
from orchestrator.dev.processes import Supervisor, default_threads, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.dev.topology_file import write_topology
from orchestrator.dev.wan import NEAR_MS, DelayProxy, view
from orchestrator.dev.weights import chat_weights
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Offer, Region, Topology

READY_WITHIN = timedelta(seconds=60)
PLACES = ("memory", "bus")
"""Regions of one worker each: pieces pass in memory in one, over a NATS server in the other."""


PLAIN_QUEUED, PLAIN_INLINE = "temporalio, activity", "temporalio, local activity"
PLAIN = frozenset({PLAIN_QUEUED, PLAIN_INLINE})
"""The ways whose caller hears nothing before the run has ended."""

Ask = Callable[[str], Awaitable[Heard]]
"""Given the prompt."""


@dataclass(frozen=True)
class Place:
    """Everything that runs: the models and a topology for each region."""

    models: Mapping[str, int]
    """Their ports on this machine."""

    topologies: Mapping[str, Topology]


@contextlib.asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Models, a Temporal server, a NATS server and the two regions' workers, each a process."""
    port, http_port, metrics_port, bus, instant, chat, *controls = free_ports(8)
    cell = CellServer("here", port, http_port, metrics_port)
    models = {"instant": instant, "chat": chat}
    async with Supervisor(folder) as supervisor:
        await asyncio.gather(
            start_cell(cell, supervisor),
            start_nats(supervisor, port=bus, folder=folder / "jetstream"),
            start_instant_server(supervisor, instant),
            start_model_server(supervisor, port=chat, threads=default_threads(), weights=chat_weights()),
        )
        topologies = {
            name: _topology(name, cell.address, control, models, bus if name == "bus" else None)
            for name, control in zip(PLACES, controls, strict=True)
        }
        await asyncio.gather(
            *(_start_worker(supervisor, folder, name, known) for name, known in topologies.items()),
            start_plain_worker(supervisor, cell.address, instant),
        )
        yield Place(models, topologies)


def _topology(name: str, cell: str, control: int, models: Mapping[str, int], bus: int | None) -> Topology:
    offers = (
        Offer(kind="model", name=model, endpoint=f"http://127.0.0.1:{port}/v1", target=MODEL)
        for model, port in models.items()
    )
    return Topology(
        cells=(Cell(name="here", region=name, address=cell, namespace="here"),),
        regions=(
            Region(
                name=name,
                coordinates=Coordinates(50.1, 8.7),
                country="DE",
                cell="here",
                control=f"http://127.0.0.1:{control}",
                offers=tuple(offers),
                bus=None if bus is None else f"nats://127.0.0.1:{bus}",
            ),
        ),
    )


async def _start_worker(supervisor: Supervisor, folder: Path, region: str, known: Topology) -> None:
    file = write_topology(known, folder / f"{region}.toml")
    command = [sys.executable, "-m", "orchestrator.cli", "worker", "run", "bench.tokens_agents:application"]
    process = await supervisor.start(
        f"worker {region}", [*command, "--region", region, "--topology", str(file)]
    )

    async def ready() -> bool:
        async with httpx.AsyncClient() as http:
            with contextlib.suppress(httpx.HTTPError):
                return (await http.get(f"{known.region(region).control}/readyz")).is_success
            return False

    await process.until_ready(ready, within=READY_WITHIN)


@contextlib.asynccontextmanager
async def caller(here: Place, rtt_ms: float) -> AsyncIterator[dict[str, dict[str, Ask]]]:
    """The ways of a user who is so far from the place: by model, then by name."""
    async with AsyncExitStack() as resources:
        clients: dict[str, EdgeClient] = {}
        plain: dict[str, Client] = {}
        for name, known in here.topologies.items():
            seen = await resources.enter_async_context(view(known, lambda _: rtt_ms))
            connecting = EdgeClient.connect(seen, application=application, watch=False)
            clients[name] = await resources.enter_async_context(await connecting)
            plain[name] = await plain_client(seen.cell("here").address or "")
        kept = httpx.Limits(keepalive_expiry=None)
        http = await resources.enter_async_context(httpx.AsyncClient(limits=kept, timeout=60))
        ways: dict[str, dict[str, Ask]] = {}
        for model, port in here.models.items():
            address = f"127.0.0.1:{port}"
            if rtt_ms >= NEAR_MS:
                proxy = DelayProxy(address, timedelta(milliseconds=rtt_ms))
                address = (await resources.enter_async_context(proxy)).address
            agent = Instant if model == "instant" else Chat
            ways[model] = {
                "direct": directly(http, f"http://{address}/v1/chat/completions", MODELS[model]),
                "start": started(clients["memory"], agent, "memory"),
                "submit": submitted(clients["memory"], agent, "memory"),
            }
        ways["instant"] |= {
            "submit, inline step": submitted(clients["memory"], InstantInline, "memory"),
            "submit, over a bus": submitted(clients["bus"], Instant, "bus"),
            PLAIN_QUEUED: plainly(plain["memory"], PlainQueued),
            PLAIN_INLINE: plainly(plain["memory"], PlainInline),
        }
        yield ways


def directly(http: httpx.AsyncClient, url: str, max_tokens: int) -> Ask:
    """What a program without Edgeward does, with a connection that is open already."""

    async def ask(prompt: str) -> Heard:
        return await streamed(http, url, prompt, max_tokens=max_tokens)

    return ask


def plainly(client: Client, way: type[PlainQueued | PlainInline]) -> Ask:
    """Through plain temporalio."""

    async def ask(prompt: str) -> Heard:
        return await asked(client, way, prompt)

    return ask


def started(client: EdgeClient, agent: type[Instant | InstantInline | Chat], origin: str) -> Ask:
    """Start, wait until the cell has the run, then open the stream."""

    async def ask(prompt: str) -> Heard:
        asked = time.time_ns()
        return await _heard(asked, await client.start(agent.run, prompt, origin=origin))

    return ask


def submitted(client: EdgeClient, agent: type[Instant | InstantInline | Chat], origin: str) -> Ask:
    """Open the stream while the run is being started."""

    async def ask(prompt: str) -> Heard:
        asked = time.time_ns()
        return await _heard(asked, client.submit(agent.run, prompt, origin=origin))

    return ask


async def _heard(asked: int, run: EdgeRun[str]) -> Heard:
    texts: list[str] = []
    arrivals: list[int] = []
    async for piece in run.stream():
        arrivals.append(time.time_ns())
        texts.append(piece.text)
    text = "".join(texts)
    if text != await run.result():
        raise RuntimeError(f"the stream had {text!r} and the result is {await run.result()!r}")
    return Heard(text, asked, tuple(arrivals))
