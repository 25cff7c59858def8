"""What can be wrong with a vector store."""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from orchestrator.backends import Backends, Point
from orchestrator.errors import (
    BackendRefusedError,
    BackendTimeoutError,
    BackendUnreachableError,
    ConfigurationError,
    MalformedResponseError,
    Recovery,
)
from orchestrator.topology.model import Offer
from tests.backends.conftest import free_port, region

POINT = Point(id="north", vector=(0, 1), payload={"text": "a private text"})


def handbook(endpoint: str, **more: object) -> Offer:
    return Offer.model_validate({"kind": "collection", "name": "handbook", "endpoint": endpoint, **more})


async def test_no_database_answers():
    offer = handbook(f"postgresql://someone@127.0.0.1:{free_port()}/nowhere")
    async with Backends(region(offer)) as backends:
        with pytest.raises(BackendUnreachableError, match="no connection") as down:
            await backends.collection("handbook").count()
    assert down.value.recovery is Recovery.ELSEWHERE
    assert "someone@" not in down.value.endpoint


async def test_a_password_is_read_when_it_is_needed(postgres_url, monkeypatch):
    offer = handbook(postgres_url, target="later", secret_env="DATABASE_PASSWORD")
    async with Backends(region(offer)) as backends:
        with pytest.raises(ConfigurationError, match="DATABASE_PASSWORD"):
            await backends.collection("handbook").upsert([POINT], create=True)
        monkeypatch.setenv("DATABASE_PASSWORD", "anything")
        await backends.collection("handbook").upsert([POINT], create=True)
        assert await backends.collection("handbook").count() == 1


async def test_connections_that_died_while_idle_are_replaced_unseen(postgres_url):
    offer = handbook(postgres_url, target="idle")
    async with Backends(region(offer)) as backends:
        collection = backends.collection("handbook")
        await collection.upsert([POINT], create=True)
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
            cursor = await admin.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'edgeward'"
            )
            assert (await cursor.fetchone())[0] >= 1
        assert await collection.count() == 1


async def test_a_query_that_waits_too_long_is_given_up(postgres_url, monkeypatch):
    monkeypatch.setattr("orchestrator.backends.pgvector.QUERY_TIMEOUT", timedelta(seconds=0.3))
    async with Backends(region(handbook(postgres_url, target="slow"))) as backends:
        collection = backends.collection("handbook")
        await collection.upsert([POINT], create=True)
        async with await psycopg.AsyncConnection.connect(postgres_url) as other:
            await other.execute("LOCK TABLE slow")
            with pytest.raises(BackendTimeoutError, match=r"within 0\.3 s"):
                await collection.count()
        assert await collection.count() == 1


async def test_a_table_of_another_shape_is_refused(postgres_url):
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute("CREATE TABLE other (number int)")
    async with Backends(region(handbook(postgres_url, target="other"))) as backends:
        with pytest.raises(BackendRefusedError, match="UndefinedColumn") as refused:
            await backends.collection("handbook").search([1, 0])
    assert refused.value.recovery is Recovery.FINAL


async def test_a_text_that_postgres_cannot_keep_is_refused(postgres_url):
    async with Backends(region(handbook(postgres_url, target="nul"))) as backends:
        with pytest.raises(BackendRefusedError) as refused:
            await backends.collection("handbook").upsert(
                [Point(id="x", vector=(1,), payload={"text": "private\0"})], create=True
            )
    assert "private" not in str(refused.value)


async def test_a_table_in_a_schema(postgres_url):
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute("CREATE SCHEMA library")
    async with Backends(region(handbook(postgres_url, target="library.books"))) as backends:
        await backends.collection("handbook").upsert([POINT], create=True)
        assert await backends.collection("handbook").count() == 1


@pytest.mark.parametrize("endpoint", ["file://elsewhere/x", "file:///", "file:relative"])
async def test_a_folder_that_is_none_of_this_machine(endpoint):
    async with Backends(region(handbook(endpoint))) as backends:
        with pytest.raises(ConfigurationError, match="file:///var/lib"):
            backends.collection("handbook")


async def test_a_folder_that_another_process_has_open(tmp_path):
    offer = handbook(f"file://{tmp_path}")
    async with Backends(region(offer)) as backends:
        await backends.collection("handbook").upsert([POINT], create=True)
    code = (
        "import sys, qdrant_edge; shard = qdrant_edge.EdgeShard.load(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    pipe = asyncio.subprocess.PIPE
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdin=pipe, stdout=pipe
    )
    try:
        assert await holder.stdout.readline() == b"open\n"
        async with Backends(region(offer)) as backends:
            with pytest.raises(BackendUnreachableError, match="another process"):
                await backends.collection("handbook").count()
            holder.stdin.close()
            await holder.wait()
            assert await backends.collection("handbook").count() == 1
    finally:
        with suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()


async def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("no folder")
    async with Backends(region(handbook(f"file://{tmp_path}/file/x"))) as backends:
        with pytest.raises(Exception, match="Not a directory") as failed:
            await backends.collection("handbook").upsert([POINT], create=True)
    assert failed.value.recovery is Recovery.ELSEWHERE


async def test_a_target_is_a_folder_below(tmp_path):
    offer = handbook(f"file://{tmp_path}", target="books")
    async with Backends(region(offer)) as backends:
        await backends.collection("handbook").upsert([POINT], create=True)
    assert Path(tmp_path, "books", "edge_config.json").exists()


async def test_points_that_others_wrote(tmp_path):
    import qdrant_edge

    vectors = qdrant_edge.EdgeVectorParams(size=2, distance=qdrant_edge.Distance.Cosine)
    shard = qdrant_edge.EdgeShard.create(str(tmp_path), qdrant_edge.EdgeConfig(vectors=vectors))
    shard.update(qdrant_edge.UpdateOperation.upsert_points([qdrant_edge.Point(id=1, vector=[1.0, 0.0])]))
    shard.close()
    async with Backends(region(handbook(f"file://{tmp_path}"))) as backends:
        with pytest.raises(MalformedResponseError, match="not written by Edgeward"):
            await backends.collection("handbook").search([1, 0])
