"""The embedded stack: cells, models, tools, indexes and workers of several regions on one machine."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from orchestrator.dev.embedding_server import MODEL as EMBEDDING_MODEL
from orchestrator.dev.embedding_server import start_embedding_server
from orchestrator.dev.index import default_documents, fill, markdown_files
from orchestrator.dev.model_server import MODEL as CHAT_MODEL
from orchestrator.dev.model_server import is_healthy, start_model_server
from orchestrator.dev.processes import Supervisor, check_space, default_threads, free_ports, port_is_free
from orchestrator.dev.regions import DEFAULT_REGIONS, Ports, check_regions, embedded_topology
from orchestrator.dev.state import StackFolder
from orchestrator.dev.temporal_server import CellServer, start_cell, temporal_program
from orchestrator.dev.tool_functions import OVER_HTTP, OVER_MCP
from orchestrator.dev.tools import start_tools
from orchestrator.dev.topology_file import write_topology
from orchestrator.dev.wan import view
from orchestrator.dev.weights import found_weights
from orchestrator.errors import StackError
from orchestrator.geography import Origin, estimated_rtt_ms
from orchestrator.topology import Region, Topology

WORKER_READY_WITHIN = timedelta(seconds=90)
WEIGHTS_WITHIN = timedelta(hours=2)
DRAIN = timedelta(seconds=10)
"""How long workers may take to finish their steps when the stack ends."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What to start."""

    regions: tuple[str, ...] = DEFAULT_REGIONS
    """Names of ``orchestrator.dev.regions.PLACES``."""

    directory: Path = Path(".edgeward")
    """Folder for logs, indexes, the topology and the state of the stack."""

    app: str | None = None
    """``module:attribute`` of the application that the workers run; ``None``: no workers."""

    persist: Path | None = None
    """Folder that keeps the cells' histories; ``None``: they end with the stack."""

    first_port: int = 0
    """First of the ports, which follow each other; 0: any free ones."""

    docs: tuple[Path, ...] | None = None
    """Markdown files and folders for the handbook. ``None``: ``README.md`` and ``docs/`` of the
    current folder, as far as they are there."""

    ui: bool = True
    """Whether the cells have their web UI."""

    model_threads: int | None = None
    """Threads of each model; ``None``: half of the cores for chat, all of them for embeddings."""


class Stack:
    """The embedded stack; it runs while its context lasts: ``async with Stack(options) as stack``.

    However the context ends, no process of it is left.

    Args:
        options: What to start.
        progress: Gets a line for people when something is ready, or takes long.
    """

    def __init__(self, options: StackOptions, progress: Progress | None = None) -> None:
        self.options = options
        self._progress: Progress = progress or _silent
        self._folder = StackFolder(options.directory)
        self._servers = Supervisor(self._folder.logs)
        self._workers = Supervisor(self._folder.logs, grace=DRAIN)
        self._resources = AsyncExitStack()
        self._topology: Topology | None = None

    @property
    def topology(self) -> Topology:
        """With the true addresses: the one of somebody who is everywhere at once.

        Raises:
            RuntimeError: The stack does not run.
        """
        if self._topology is None:
            raise RuntimeError("the stack does not run; use it as `async with Stack(options) as stack:`")
        return self._topology

    def view_from(self, origin: Origin) -> AbstractAsyncContextManager[Topology]:
        """The topology as somebody at this origin sees it: cells and workers are far away."""
        return view_from(self.topology, origin)

    async def failure(self) -> StackError:
        """Wait until a process of the stack ends by itself, and say which and why."""
        waiting = [
            asyncio.create_task(supervisor.first_exit()) for supervisor in (self._servers, self._workers)
        ]
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            process = done.pop().result()
            return process.failure(f"ended with status {await process.exited()}")
        finally:
            for task in waiting:
                task.cancel()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            try:
                await self._start(resources)
            except BaseExceptionGroup as group:
                # several may fail at once, such as all cells on a full disk; one is enough to act on
                failed = group.subgroup(StackError)
                if failed is None:
                    raise
                raise _first(failed) from None
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *details: Any) -> None:
        self._topology = None
        await self._resources.__aexit__(*details)

    async def _start(self, resources: AsyncExitStack) -> None:
        options = self.options
        check_regions(options.regions)
        files = markdown_files(default_documents(Path.cwd()) if options.docs is None else options.docs)
        temporal_program()
        check_space(options.directory)
        resources.enter_context(self._folder.taken())
        cells, ports = self._ports()
        topology = embedded_topology(options.regions, ports, self._folder.path / "collections")
        write_topology(topology, self._folder.topology)
        start = time.monotonic()
        await resources.enter_async_context(self._servers)
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(self._start_cell(cell)) for cell in cells]
            group.create_task(self._start_model(ports.model))
            group.create_task(self._start_embedding(ports.embedding, topology.regions, files))
            group.create_task(self._start_tools(ports.tools))
            if options.app is not None:
                # they need no more than their cells: a handbook is opened by its first search
                await asyncio.gather(*running)
                await self._start_workers(options.app, topology, resources)
        self._folder.write_state(options.regions, options.app)
        self._topology = topology
        self._progress(f"stack      ready in {time.monotonic() - start:.1f} s")

    async def _start_cell(self, cell: CellServer) -> None:
        await self._timed(
            start_cell(cell, self._servers), f"cell       {cell.name}  {cell.ui or cell.address}"
        )

    async def _start_tools(self, port: int) -> None:
        names = ", ".join((*OVER_HTTP, *OVER_MCP))
        await self._timed(start_tools(self._servers, port=port), f"tools      {names}")

    async def _start_model(self, port: int) -> None:
        weights = await asyncio.to_thread(found_weights)
        if weights is None:
            await self._fetch_weights()
            weights = await asyncio.to_thread(found_weights)
        if weights is None:
            raise StackError("the weights of the chat model are gone again; is something emptying the cache?")
        threads = self.options.model_threads or default_threads()
        starting = start_model_server(self._servers, port=port, threads=threads, weights=weights)
        await self._timed(starting, f"model      {CHAT_MODEL}")

    async def _fetch_weights(self) -> None:
        """In a process of its own, so that it can be ended at any moment."""
        start = time.monotonic()
        async with Supervisor(self._folder.logs) as fetching:
            process = await fetching.start("weights", [sys.executable, "-m", "orchestrator.dev.weights"])
            while process.running:
                self._progress(f"weights    {CHAT_MODEL}  fetching 93 MiB, {time.monotonic() - start:.0f} s")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.exited(), 5)
            if await process.exited() != 0:
                raise process.failure("cannot be fetched")

    async def _start_embedding(self, port: int, regions: tuple[Region, ...], files: list[Path]) -> None:
        # its threads do not wait for each other, each embeds another text: all cores can work
        threads = self.options.model_threads or os.cpu_count() or 1
        starting = start_embedding_server(self._servers, port=port, threads=threads)
        await self._timed(starting, f"model      {EMBEDDING_MODEL}")
        if not files:
            self._progress("handbook   empty: no README.md and no docs/ here")
            return
        start = time.monotonic()
        cache = self._folder.path / "vectors.db"
        count = await fill(regions, files, cache=cache, progress=self._progress)
        self._progress(
            f"handbook   {count} passages of {len(files)} files in {len(regions)} regions  "
            f"ready in {time.monotonic() - start:.1f} s"
        )

    async def _start_workers(self, app: str, topology: Topology, resources: AsyncExitStack) -> None:
        # the views end after the workers: they still speak to their cells while they drain
        seen = {
            region.name: await resources.enter_async_context(view_from(topology, _inside(region)))
            for region in topology.regions
        }
        await resources.enter_async_context(self._workers)
        async with asyncio.TaskGroup() as group:
            for region in topology.regions:
                file = write_topology(seen[region.name], self._folder.view(region.name))
                starting = self._start_worker(app, region, file)
                group.create_task(self._timed(starting, f"worker     {region.name}  {region.control}"))

    async def _start_worker(self, app: str, region: Region, topology_file: Path) -> None:
        process = await self._workers.start(
            f"worker {region.name}", worker_command(app, region.name, topology_file)
        )
        await process.until_ready(lambda: is_healthy(f"{region.control}/readyz"), within=WORKER_READY_WITHIN)

    async def _timed(self, starting: Coroutine[Any, Any, object], what: str) -> None:
        start = time.monotonic()
        await starting
        self._progress(f"{what}  ready in {time.monotonic() - start:.1f} s")

    def _ports(self) -> tuple[list[CellServer], Ports]:
        names, options = self.options.regions, self.options
        wanted = ["model", "embedding", "tools"]
        for name in names:
            wanted += [f"{kind} of {name}" for kind in ("cell", "web UI", "worker", "HTTP API", "metrics")]
        numbers = self._numbers(wanted)
        port = dict(zip(wanted, numbers, strict=True))
        cells = [
            CellServer(
                name=name,
                port=port[f"cell of {name}"],
                http_port=port[f"HTTP API of {name}"],
                metrics_port=port[f"metrics of {name}"],
                ui_port=port[f"web UI of {name}"] if options.ui else None,
                database=None if options.persist is None else options.persist.resolve() / f"{name}.db",
            )
            for name in names
        ]
        return cells, Ports(
            model=port["model"],
            embedding=port["embedding"],
            tools=port["tools"],
            cells={cell.name: cell.port for cell in cells},
            uis={cell.name: cell.ui_port for cell in cells if cell.ui_port is not None},
            controls={name: port[f"worker of {name}"] for name in names},
        )

    def _numbers(self, wanted: list[str]) -> list[int]:
        first = self.options.first_port
        if first == 0:
            return free_ports(len(wanted))
        last = first + len(wanted) - 1
        if not 1024 <= first <= last <= 65535:
            raise StackError(
                f"the ports {first} to {last} are not all between 1024 and 65535; choose another first port"
            )
        for what, number in zip(wanted, range(first, last + 1), strict=True):
            if not port_is_free(number):
                raise StackError(
                    f"port {number} ({what}) is in use; end the program that has it, or choose another "
                    f"first port: the stack takes {first} to {last}"
                )
        return list(range(first, last + 1))


def worker_command(app: str, region: str, topology_file: Path) -> list[str]:
    """The command line that serves a region."""
    command = [sys.executable, "-m", "orchestrator.cli", "worker", "run", app]
    return [*command, "--region", region, "--topology", str(topology_file)]


@contextlib.asynccontextmanager
async def view_from(topology: Topology, origin: Origin) -> AsyncGenerator[Topology]:
    """A topology of this machine as somebody at this origin sees it; see ``orchestrator.dev.wan.view``.

    Args:
        topology: With the true addresses.
        origin: Where the viewer is.
    """
    async with view(topology, rtt_ms_from(topology, origin), region=origin.region) as seen:
        yield seen


def rtt_ms_from(topology: Topology, origin: Origin) -> Callable[[str], float]:
    """The round trip times that are emulated from an origin to the regions, in milliseconds.

    Between regions they are those of the topology, which estimates what no link tells; from
    elsewhere they are estimated from coordinates. Inside a region, loopback stands for the distance.
    """

    def rtt_ms(region: str) -> float:
        if region == origin.region:
            return 0.0
        if origin.region is not None and topology.has_region(origin.region):
            return topology.rtt_ms(origin.region, region)
        return estimated_rtt_ms(origin.coordinates, topology.region(region).coordinates)

    return rtt_ms


def _silent(_: str) -> None:
    """Progress for nobody."""


def _inside(region: Region) -> Origin:
    return Origin(label=region.name, coordinates=region.coordinates, region=region.name)


def _first(group: BaseExceptionGroup[StackError]) -> StackError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, StackError)
    return found
