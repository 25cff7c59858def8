"""Collections in Qdrant Edge: an index in the worker's own process, kept in a folder.

A folder belongs to one process at a time; within it, every use shares one open shard.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote, urlsplit

import qdrant_edge
from opentelemetry.trace import SpanKind

from orchestrator.backends.collections import Hit, Point, checked_points, checked_search
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.observed import Call
from orchestrator.backends.operations import Operation, Store, retrieval_operation, store_operation
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendRefusedError,
    BackendUnreachableError,
    ConfigurationError,
    MalformedResponseError,
)
from orchestrator.telemetry import names

ResultT = TypeVar("ResultT")

_ID_KEY = "_edgeward_id"
_ID_NAMESPACE = uuid.UUID("7b5e9d0a-3f53-5f0c-9a53-0d2f1f3f8a11")
"""The index takes numbers and UUIDs as ids, so a text id becomes a UUID; the text is in the payload."""


@dataclass
class _Shard:
    """An open folder."""

    shard: qdrant_edge.EdgeShard
    users: int = 0
    writing: threading.Lock = field(default_factory=threading.Lock)


class _Shards:
    """The folders that this process has open."""

    _open: ClassVar[dict[Path, _Shard]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def take(cls, path: Path, create_for: int | None) -> _Shard | None:
        """Opens a folder, or shares it; None if there is no collection and none is to be made."""
        with cls._lock:
            if path not in cls._open:
                if (path / "edge_config.json").exists():
                    shard = qdrant_edge.EdgeShard.load(str(path))
                elif create_for is None:
                    return None
                else:
                    shard = cls._created(path, create_for)
                cls._open[path] = _Shard(shard)
            cls._open[path].users += 1
            return cls._open[path]

    @classmethod
    def give_back(cls, path: Path) -> None:
        """Closes a folder when nothing uses it any more."""
        with cls._lock:
            shard = cls._open[path]
            shard.users -= 1
            if shard.users == 0:
                del cls._open[path]
                with shard.writing:
                    shard.shard.flush()
                    shard.shard.close()

    @staticmethod
    def _created(path: Path, size: int) -> qdrant_edge.EdgeShard:
        path.mkdir(parents=True, exist_ok=True)
        vectors = qdrant_edge.EdgeVectorParams(size=size, distance=qdrant_edge.Distance.Cosine)
        return qdrant_edge.EdgeShard.create(str(path), qdrant_edge.EdgeConfig(vectors=vectors))


class QdrantEdgeCollection:
    """A collection in the folder that the offer's ``file://`` endpoint names; see ``Collection``.

    With a ``target``, it is the folder of that name below the endpoint. Vectors are kept
    normalised. An upsert is on disk when it returns.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        parts = urlsplit(endpoint.offer.endpoint)
        if (
            parts.scheme != "file"
            or parts.netloc not in {"", "localhost"}
            or not parts.path.strip("/")
            or not parts.path.startswith("/")
        ):
            raise ConfigurationError(
                f"{endpoint}: its endpoint {endpoint.shown} names no folder of the worker's machine; "
                "write it like file:///var/lib/edgeward/handbook"
            )
        path = Path(unquote(parts.path))
        self._path = (path / endpoint.offer.target if endpoint.offer.target else path).resolve()
        self._shard: _Shard | None = None
        self._opening = asyncio.Lock()
        store = Store(names.DB_SYSTEM_QDRANT, SpanKind.INTERNAL, {})
        self._retrieval = retrieval_operation(endpoint, store)
        self._search, self._upsert, self._get, self._delete, self._count = (
            store_operation(endpoint, store, name, command)
            for name, command in (
                ("search", "query"),
                ("upsert", "upsert"),
                ("get", "retrieve"),
                ("delete", "delete"),
                ("count", "count"),
            )
        )

    async def search(
        self, vector: Sequence[float], *, limit: int = 5, where: Mapping[str, str] | None = None
    ) -> list[Hit]:
        """See ``Collection.search``."""
        checked_search(vector, limit, where)
        request = qdrant_edge.QueryRequest(
            limit=limit,
            query=qdrant_edge.Query.Nearest(list(vector)),
            filter=_filter(where) if where else None,
            with_payload=True,
        )
        with Call(self._retrieval) as retrieval:
            retrieval.describe({names.RETRIEVAL_TOP_K: limit})
            found = await self._run(lambda shard: shard.shard.query(request), self._search, part_of=retrieval)
            hits: list[Hit] = []
            for point in found:
                identity, payload = self._told(point.payload)
                hits.append(Hit(id=identity, score=point.score, payload=payload))
        return hits

    async def upsert(self, points: Sequence[Point], *, create: bool = False) -> None:
        """See ``Collection.upsert``."""
        if not points:
            return
        size = checked_points(points)
        if any(_ID_KEY in point.payload for point in points):
            raise ConfigurationError(f"upsert(): the key {_ID_KEY!r} of a payload is reserved; rename it")

        def write(shard: _Shard) -> None:
            kept = [
                qdrant_edge.Point(
                    id=_uuid(point.id),
                    vector=list(point.vector),
                    payload={**point.payload, _ID_KEY: point.id},
                )
                for point in points
            ]
            with shard.writing:
                shard.shard.update(qdrant_edge.UpdateOperation.upsert_points(kept))
                shard.shard.flush()
                shard.shard.optimize()  # builds the graph once there are enough points for one

        await self._run(write, self._upsert, create_for=size if create else None)

    async def get(self, ids: Sequence[str]) -> list[Point]:
        """See ``Collection.get``."""
        if not ids:
            return []
        wanted: list[qdrant_edge.PointId] = [_uuid(identity) for identity in ids]
        records = await self._run(
            lambda shard: shard.shard.retrieve(wanted, with_payload=True, with_vector=True), self._get
        )
        points: dict[str, Point] = {}
        for record in records:
            identity, payload = self._told(record.payload)
            points[identity] = Point.model_validate(
                {"id": identity, "vector": record.vector, "payload": payload}
            )
        return [points[identity] for identity in ids if identity in points]

    async def delete(self, ids: Sequence[str]) -> None:
        """See ``Collection.delete``."""
        if not ids:
            return

        def write(shard: _Shard) -> None:
            with shard.writing:
                gone: list[qdrant_edge.PointId] = [_uuid(identity) for identity in ids]
                shard.shard.update(qdrant_edge.UpdateOperation.delete_points(gone))
                shard.shard.flush()

        await self._run(write, self._delete)

    async def count(self) -> int:
        """See ``Collection.count``."""
        request = qdrant_edge.CountRequest(exact=True)
        return await self._run(lambda shard: shard.shard.count(request), self._count)

    async def aclose(self) -> None:
        """Gives the folder back."""
        async with self._opening:
            if self._shard is not None:
                self._shard = None
                await asyncio.to_thread(_Shards.give_back, self._path)

    async def _run(
        self,
        work: Callable[[_Shard], ResultT],
        operation: Operation,
        *,
        part_of: Call | None = None,
        create_for: int | None = None,
    ) -> ResultT:
        with Call(operation, part_of):
            return await self._in_a_thread(work, create_for)

    async def _in_a_thread(self, work: Callable[[_Shard], ResultT], create_for: int | None) -> ResultT:
        """Runs what blocks, with the library's untyped errors turned into ours."""
        try:
            shard = self._shard or await self._opened(create_for)
            return await asyncio.to_thread(work, shard)
        except (BackendError, asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except OSError as error:
            raise self._error(BackendFaultError, f"{self._path}: {error.strerror}") from None
        except BaseException as error:
            # A Rust panic is no Exception, and would otherwise end the worker.
            raise self._typed(error) from None

    async def _opened(self, create_for: int | None) -> _Shard:
        async with self._opening:
            if self._shard is None:
                self._shard = await asyncio.to_thread(_Shards.take, self._path, create_for)
            if self._shard is None:
                raise self._error(
                    BackendRefusedError,
                    f"there is no collection in {self._path}; fill it with upsert(points, create=True), "
                    "or name the right folder in the topology",
                )
            return self._shard

    def _typed(self, error: BaseException) -> BackendError:
        text = str(error)
        if "dimension error" in text:
            return self._error(
                BackendRefusedError, f"{text}; use the model that the collection was filled with"
            )
        if "WouldBlock" in text:
            return self._error(
                BackendUnreachableError,
                f"{self._path} is in use by another process; give each worker a folder of its own, "
                "or use pgvector, which they can share",
            )
        return self._error(BackendFaultError, f"the index failed: {text.partition(':')[0][:100]}")

    def _error(self, kind: type[BackendError], message: str) -> BackendError:
        return kind(
            f"{self._endpoint.offer.key}: {message}",
            endpoint=self._endpoint.shown,
            region=self._endpoint.region,
        )

    def _told(self, payload: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
        told = dict(payload or {})
        identity = told.pop(_ID_KEY, None)
        if not isinstance(identity, str):
            raise self._error(MalformedResponseError, f"a point in {self._path} was not written by Edgeward")
        return identity, told


def _uuid(identity: str) -> uuid.UUID:
    return uuid.uuid5(_ID_NAMESPACE, identity)


def _filter(where: Mapping[str, str]) -> qdrant_edge.Filter:
    return qdrant_edge.Filter(
        must=[
            qdrant_edge.FieldCondition(key=key, match=qdrant_edge.MatchValue(value))
            for key, value in where.items()
        ]
    )
