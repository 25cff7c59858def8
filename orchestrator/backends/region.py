"""The backends of one region, and the way a step reaches those of the region it runs in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx

from orchestrator.backends.collections import Collection
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import new_client
from orchestrator.backends.openai import Model
from orchestrator.backends.tools import HttpTool, Tool
from orchestrator.bound import Bound
from orchestrator.errors import ConfigurationError, OfferMissingError
from orchestrator.topology.model import OfferKey, OfferKind, Region

if TYPE_CHECKING:
    from orchestrator.backends.mcp_session import McpServer


class Backends:
    """What one region offers, opened when first used and kept open.

    Belongs to one event loop. A worker makes one for its region and keeps it for its life, so
    that connections are reused: ``async with Backends(region) as backends``.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self._client: httpx.AsyncClient | None = None
        self._models: dict[str, Model] = {}
        self._collections: dict[str, Collection] = {}
        self._tools: dict[str, Tool] = {}
        self._mcp_servers: dict[object, McpServer] = {}
        self._closing: list[Callable[[], Coroutine[Any, Any, None]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def model(self, name: str) -> Model:
        """The model of this name.

        Raises:
            OfferMissingError: The region does not offer it.
        """
        if name not in self._models:
            self._models[name] = Model(self._endpoint("model", name, {"openai"}), self._http_client())
        return self._models[name]

    def collection(self, name: str) -> Collection:
        """The collection of this name.

        Raises:
            OfferMissingError: The region does not offer it.
            ConfigurationError: What it takes is not installed; the message names the extra.
        """
        if name not in self._collections:
            endpoint = self._endpoint("collection", name, {"qdrant-edge", "pgvector"})
            self._collections[name] = self._opened_collection(endpoint)
        return self._collections[name]

    def tool(self, name: str) -> Tool:
        """The tool of this name.

        Raises:
            OfferMissingError: The region does not offer it.
        """
        if name not in self._tools:
            endpoint = self._endpoint("tool", name, {"http", "mcp"})
            self._tools[name] = self._opened_tool(endpoint)
        return self._tools[name]

    async def aclose(self) -> None:
        """Closes every connection. What was handed out cannot be used any more."""
        closing, self._closing = self._closing[::-1], []
        self._models.clear()
        self._collections.clear()
        self._tools.clear()
        self._mcp_servers.clear()
        self._client = None
        errors: list[Exception] = []
        for close in closing:
            try:
                await close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"closing the backends of {self.region.name}", errors)

    def _endpoint(self, kind: OfferKind, name: str, protocols: set[str]) -> Endpoint:
        offer = self.region.offer(OfferKey(kind, name))
        if offer is None:
            offered = sorted(offer.name for offer in self.region.offers if offer.kind == kind)
            raise OfferMissingError(
                f'the region offers no {kind} "{name}" (it has {", ".join(offered) or "none"}); '
                f'declare needs=Needs({kind}="{name}") on the step, or add the offer to the topology',
                endpoint="none",
                region=self.region.name,
            )
        endpoint = Endpoint(offer=offer, region=self.region.name)
        if offer.spoken not in protocols:
            raise ConfigurationError(
                f"{endpoint}: its protocol is {offer.spoken}, but a {kind} is spoken to by "
                f"{' or '.join(sorted(protocols))}; correct the topology"
            )
        return endpoint

    def _http_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = new_client()
            self._closing.append(self._client.aclose)
        return self._client

    def _opened_collection(self, endpoint: Endpoint) -> Collection:
        # Imported here: each store is an extra, and a worker without collections needs neither.
        if endpoint.offer.spoken == "pgvector":
            with _extra("pgvector", endpoint):
                from orchestrator.backends.pgvector import PgvectorCollection

            collection = PgvectorCollection(endpoint)
            self._closing.append(collection.aclose)
            return collection
        with _extra("qdrant", endpoint):
            from orchestrator.backends.qdrant_edge import QdrantEdgeCollection

        shard = QdrantEdgeCollection(endpoint)
        self._closing.append(shard.aclose)
        return shard

    def _opened_tool(self, endpoint: Endpoint) -> Tool:
        if endpoint.offer.spoken == "http":
            return HttpTool(endpoint, self._http_client())
        # Imported here: it takes a third of a second, and most workers have no such tool.
        from orchestrator.backends.mcp_session import McpServer
        from orchestrator.backends.mcp_tools import McpTool

        offer = endpoint.offer
        address = (offer.endpoint, offer.secret_env, offer.secret_file)
        server = self._mcp_servers.get(address)
        if server is None:
            server = self._mcp_servers[address] = McpServer(endpoint)
            self._closing.append(server.aclose)
        return McpTool(endpoint, server)


@contextmanager
def _extra(name: str, endpoint: Endpoint) -> Generator[None]:
    try:
        yield
    except ImportError as error:
        if error.name is not None and error.name.startswith("orchestrator"):
            raise
        raise ConfigurationError(
            f"{endpoint}: its protocol {endpoint.offer.spoken} needs the package {error.name}; "
            f'install it with: pip install "edgeward[{name}]"'
        ) from error


_current: ContextVar[Backends | None] = ContextVar("edgeward_backends", default=None)


def using(backends: Backends) -> Bound[Backends]:
    """Makes these the backends that ``model``, ``collection`` and ``tool`` answer with in a block."""
    return Bound(_current, backends)


def current() -> Backends:
    """The backends of the region whose worker runs the step.

    Raises:
        ConfigurationError: There are none: this is no step in a worker.
    """
    backends = _current.get()
    if backends is None:
        raise ConfigurationError(
            "no region's backends are in use here: a worker sets them for its steps; "
            "elsewhere, such as in a test, write: with using(Backends(region)): ..."
        )
    return backends


def model(name: str) -> Model:
    """The model of this name in the region whose worker runs the step.

    Raises:
        OfferMissingError: The region does not offer it.
        ConfigurationError: This is no step in a worker, and ``using`` is not in effect.
    """
    return current().model(name)


def collection(name: str) -> Collection:
    """The collection of this name in the region whose worker runs the step.

    Raises:
        OfferMissingError: The region does not offer it.
        ConfigurationError: This is no step in a worker, and ``using`` is not in effect.
    """
    return current().collection(name)


def tool(name: str) -> Tool:
    """The tool of this name in the region whose worker runs the step.

    Raises:
        OfferMissingError: The region does not offer it.
        ConfigurationError: This is no step in a worker, and ``using`` is not in effect.
    """
    return current().tool(name)
