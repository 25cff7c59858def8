"""Collections in PostgreSQL with the pgvector extension: a table each, shared by all workers of a region."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
import psycopg_pool
from opentelemetry.trace import SpanKind
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from orchestrator.backends.collections import Hit, Point, checked_points, checked_search
from orchestrator.backends.endpoint import Endpoint
from orchestrator.backends.http import Deadline
from orchestrator.backends.observed import Call
from orchestrator.backends.operations import Operation, Store, retrieval_operation, store_operation
from orchestrator.errors import (
    BackendError,
    BackendFaultError,
    BackendOverloadedError,
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnreachableError,
    Recovery,
)
from orchestrator.telemetry import names

ResultT = TypeVar("ResultT")

CONNECT_TIMEOUT = timedelta(seconds=5)
QUERY_TIMEOUT = timedelta(seconds=30)
MAX_CONNECTIONS = 16

_MAX_INDEXED_DIMENSIONS = 2000
"""What pgvector's graph takes; longer vectors are searched one by one."""

_POSTGRESQL_PORT = 5432

_Connection = psycopg.AsyncConnection[tuple[Any, ...]]
_Pool = psycopg_pool.AsyncConnectionPool[_Connection]


class PgvectorCollection:
    """A collection in a table with ``id``, ``embedding`` and ``payload``; see ``Collection``.

    The table is the offer's ``target`` (``schema.table`` too), else its name.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._table = sql.Identifier(*endpoint.target.split("."))
        self._pool: _Pool | None = None
        self._opening = asyncio.Lock()
        self._seen: WeakSet[_Connection] = WeakSet()
        store = _store(endpoint)
        self._retrieval = retrieval_operation(endpoint, store)
        self._search, self._upsert, self._get, self._delete, self._count = (
            store_operation(endpoint, store, name, command)
            for name, command in (
                ("search", "SELECT"),
                ("upsert", "INSERT"),
                ("get", "SELECT"),
                ("delete", "DELETE"),
                ("count", "SELECT"),
            )
        )

    async def search(
        self, vector: Sequence[float], *, limit: int = 5, where: Mapping[str, str] | None = None
    ) -> list[Hit]:
        """See ``Collection.search``."""
        checked_search(vector, limit, where)
        conditions: list[sql.Composable] = []
        values: list[object] = [_text(vector)]
        for key, value in (where or {}).items():
            # Holds for the value itself and for a list that has it.
            conditions.append(sql.SQL("payload -> %s::text @> %s"))
            values += [key, Jsonb(value)]
        only = sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")
        query = sql.SQL(
            "SELECT id, 1 - (embedding <=> %s::vector), payload FROM {} {} "
            "ORDER BY embedding <=> %s::vector LIMIT %s"
        ).format(self._table, only)
        with Call(self._retrieval) as retrieval:
            retrieval.describe({names.RETRIEVAL_TOP_K: limit})
            rows = await self._rows(query, [*values, _text(vector), limit], self._search, retrieval)
        return [Hit(id=row[0], score=row[1], payload=row[2]) for row in rows]

    async def upsert(self, points: Sequence[Point], *, create: bool = False) -> None:
        """See ``Collection.upsert``."""
        if not points:
            return
        size = checked_points(points)
        query = sql.SQL(
            "INSERT INTO {} (id, embedding, payload) VALUES (%s, %s::vector, %s) "
            "ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding, payload = excluded.payload"
        ).format(self._table)
        rows = [(point.id, _text(point.vector), Jsonb(point.payload)) for point in points]

        async def write(connection: _Connection) -> None:
            async with connection.transaction(), connection.cursor() as cursor:
                if create:
                    await self._create(connection, size)
                await cursor.executemany(query, rows)

        await self._run(write, self._upsert)

    async def get(self, ids: Sequence[str]) -> list[Point]:
        """See ``Collection.get``."""
        query = sql.SQL("SELECT id, embedding::real[], payload FROM {} WHERE id = ANY(%s)").format(
            self._table
        )
        rows = await self._rows(query, [list(ids)], self._get)
        points = {row[0]: Point(id=row[0], vector=tuple(row[1]), payload=row[2]) for row in rows}
        return [points[identity] for identity in ids if identity in points]

    async def delete(self, ids: Sequence[str]) -> None:
        """See ``Collection.delete``."""
        query = sql.SQL("DELETE FROM {} WHERE id = ANY(%s)").format(self._table)

        async def write(connection: _Connection) -> None:
            await connection.execute(query, [list(ids)])

        await self._run(write, self._delete)

    async def count(self) -> int:
        """See ``Collection.count``."""
        query = sql.SQL("SELECT count(*) FROM {}").format(self._table)
        rows = await self._rows(query, [], self._count)
        return rows[0][0]

    async def aclose(self) -> None:
        """Closes the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    async def _create(self, connection: _Connection, size: int) -> None:
        # Two workers may do this at the same time, and IF NOT EXISTS alone does not stand that.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('edgeward'))")
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        await connection.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} "
                "(id text PRIMARY KEY, embedding vector({}) NOT NULL, payload jsonb NOT NULL)"
            ).format(self._table, sql.Literal(size))
        )
        if size <= _MAX_INDEXED_DIMENSIONS:
            name = sql.Identifier(f"{self._endpoint.target.rpartition('.')[2][:50]}_embedding")
            await connection.execute(
                sql.SQL(
                    "CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw (embedding vector_cosine_ops)"
                ).format(name, self._table)
            )

    async def _rows(
        self,
        query: sql.Composed,
        values: Sequence[object],
        operation: Operation,
        part_of: Call | None = None,
    ) -> list[tuple[Any, ...]]:
        async def read(connection: _Connection) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(query, values)
            return await cursor.fetchall()

        return await self._run(read, operation, part_of)

    async def _run(
        self,
        work: Callable[[_Connection], Awaitable[ResultT]],
        operation: Operation,
        part_of: Call | None = None,
    ) -> ResultT:
        """Does something that may be done twice, as everything here may."""
        kept = self._pool is not None
        with Call(operation, part_of) as call:
            try:
                async with self._connection(call) as connection:
                    return await work(connection)
            except BackendUnreachableError:
                if not kept or self._pool is None:
                    raise
            # Connections that died while idle look like this too: drop those, then try once more.
            call.sent_again()
            async with self._mapped(Deadline(QUERY_TIMEOUT), call):
                await self._pool.check()
            async with self._connection(call) as connection:
                return await work(connection)

    @asynccontextmanager
    async def _connection(self, call: Call) -> AsyncGenerator[_Connection]:
        deadline = Deadline(QUERY_TIMEOUT)
        async with self._mapped(deadline, call):
            began = time.monotonic()
            pool = self._pool or await self._opened()
            try:
                connection = await pool.getconn(CONNECT_TIMEOUT.total_seconds())
            except psycopg_pool.PoolTimeout:
                await self._probe()  # says why there is none, if the server is the reason
                raise
            try:
                if connection not in self._seen:
                    self._seen.add(connection)
                    call.connected(time.monotonic() - began)
                async with deadline.wait():
                    yield connection
            finally:
                await pool.putconn(connection)

    async def _opened(self) -> _Pool:
        async with self._opening:
            if self._pool is None:
                await self._probe()
                pool: _Pool = psycopg_pool.AsyncConnectionPool(
                    self._endpoint.offer.endpoint,
                    kwargs=self._arguments,
                    min_size=0,
                    max_size=min(self._endpoint.offer.slots, MAX_CONNECTIONS),
                    configure=_configure,
                    open=False,
                    name=f"{self._endpoint.region}/{self._endpoint.offer.name}",
                )
                await pool.open()
                self._pool = pool
            return self._pool

    async def _probe(self) -> None:
        """Connects once outside of the pool, which retries unseen and does not say why it fails."""
        connection = await psycopg.AsyncConnection.connect(self._endpoint.offer.endpoint, **self._arguments())
        await connection.close()

    def _arguments(self) -> dict[str, Any]:
        """Of each new connection; the password is read again for each."""
        arguments: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": int(CONNECT_TIMEOUT.total_seconds()),
            "application_name": "edgeward",
        }
        secret = self._endpoint.secret()
        return arguments if secret is None else {**arguments, "password": secret}

    @asynccontextmanager
    async def _mapped(self, deadline: Deadline, call: Call) -> AsyncGenerator[None]:
        """Turns the driver's errors into ours, without their text: it may quote what a row holds."""
        try:
            yield
        except psycopg_pool.PoolTimeout:
            raise self._error(
                BackendOverloadedError, "all of the worker's connections to it are in use"
            ) from None
        except TimeoutError:
            seconds = deadline.timeout.total_seconds()
            raise self._error(BackendTimeoutError, f"no answer within {seconds:g} s") from None
        except psycopg.Error as error:
            call.refused_with(error.sqlstate or "")
            raise self._typed(error) from None

    def _typed(self, error: psycopg.Error) -> BackendError:
        state = error.sqlstate or ""
        name = f"{type(error).__name__} {state}".strip()
        if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedObject):
            return self._error(
                BackendRefusedError,
                f"there is no collection in table {self._endpoint.target}; fill it with "
                "upsert(points, create=True), or name the right table with target in the topology",
            )
        if isinstance(error, psycopg.DataError):
            return self._error(
                BackendRefusedError,
                f"the vector or payload does not fit the table ({name}); "
                "use the model that the collection was filled with",
            )
        if not state and isinstance(error, psycopg.OperationalError):
            reason = str(error).strip().partition("\n")[0]
            return self._error(BackendUnreachableError, f"no connection: {reason}")
        for prefix, kind in _KINDS.items():
            if state.startswith(prefix):
                return self._error(kind, f"PostgreSQL says {name}")
        return self._error(BackendFaultError, f"PostgreSQL says {name}", _recovery(state))

    def _error(
        self, kind: type[BackendError], message: str, recovery: Recovery | None = None
    ) -> BackendError:
        return kind(
            f"{self._endpoint.offer.key}: {message}",
            endpoint=self._endpoint.shown,
            region=self._endpoint.region,
            recovery=recovery,
        )


_KINDS: dict[str, type[BackendError]] = {
    "08": BackendUnreachableError,
    "57P": BackendUnreachableError,
    "57014": BackendTimeoutError,
    "53": BackendOverloadedError,
    "22": BackendRefusedError,
    "23": BackendRefusedError,
    "28": BackendRefusedError,
    "3": BackendRefusedError,
    "42": BackendRefusedError,
}
"""Beginnings of SQLSTATE codes. What is not here is the server's fault."""


def _store(endpoint: Endpoint) -> Store:
    """The database as its spans say it; the connection string itself is told to nobody."""
    try:
        told = conninfo_to_dict(endpoint.offer.endpoint)
    except psycopg.ProgrammingError:
        told = {}  # the first connection says what is wrong with it
    address: dict[str, str | int] = {}
    host, port, database = (str(told.get(key) or "").partition(",")[0] for key in ("host", "port", "dbname"))
    if host:
        address[names.SERVER_ADDRESS] = host
        address[names.SERVER_PORT] = int(port) if port.isdecimal() else _POSTGRESQL_PORT
    return Store(names.DB_SYSTEM_POSTGRESQL, SpanKind.CLIENT, address, database or None)


def _recovery(state: str) -> Recovery | None:
    """A deadlock or a serialization failure goes away by itself."""
    return Recovery.RETRY_HERE if state.startswith("40") else None


async def _configure(connection: _Connection) -> None:
    """With a filter, the graph is searched on until there are enough hits (pgvector 0.8 and later)."""
    try:
        await connection.execute("SET hnsw.iterative_scan = 'strict_order'")
    except psycopg.errors.Error:
        return  # an older pgvector


def _text(vector: Sequence[float]) -> str:
    return "[" + ",".join(repr(float(value)) for value in vector) + "]"
