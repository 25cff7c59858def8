"""Real stores: folders, and buckets of a server that speaks S3 over HTTP."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from orchestrator.dev.processes import Supervisor, free_ports, port_answers
from orchestrator.topology import Store


@dataclass(frozen=True)
class Place:
    """The stores of the regions, and what is in them."""

    stores: dict[str, Store]

    def objects(self, region: str) -> list[bytes]:
        return list(self._read(self.stores[region]))

    def delete(self, region: str) -> None:
        store = self.stores[region]
        if store.folder is not None:
            for file in store.folder.rglob("*"):
                if file.is_file():
                    file.unlink()
            return
        opened = bucket(store)
        for page in obstore.list(opened):
            obstore.delete(opened, [entry["path"] for entry in page])

    def _read(self, store: Store) -> Iterator[bytes]:
        if store.folder is not None:
            yield from (file.read_bytes() for file in store.folder.rglob("*") if file.is_file())
            return
        opened = bucket(store)
        for page in obstore.list(opened):
            for entry in page:
                yield bytes(obstore.get(opened, entry["path"]).bytes())


def bucket(store: Store) -> obstore.store.S3Store:
    return obstore.store.S3Store(
        store.bucket,
        prefix=store.prefix or None,
        endpoint=store.endpoint,
        region="us-east-1",
        access_key_id="test",
        secret_access_key="secret",
        client_options={"allow_http": True},
    )


@pytest.fixture(scope="session")
async def s3(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of an S3 server with the buckets ``frankfurt`` and ``dublin``."""
    [port] = free_ports(1)
    async with Supervisor(tmp_path_factory.mktemp("s3")) as supervisor:
        server = await supervisor.start(
            "s3", [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
        )

        async def ready() -> bool:
            return await port_answers(port)

        await server.until_ready(ready, within=timedelta(seconds=60))
        for name in ("frankfurt", "dublin"):
            await create_bucket(port, name)
        yield f"http://127.0.0.1:{port}"


async def create_bucket(port: int, name: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    writer.close()


@pytest.fixture(scope="session", params=["file", "s3"])
def kept(request: pytest.FixtureRequest, s3: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    if request.param == "file":
        folder = tmp_path_factory.mktemp("stores")
        return Place({name: Store(url=f"file://{folder}/{name} store") for name in ("frankfurt", "dublin")})
    secret = tmp_path_factory.mktemp("secret") / "secret"
    secret.write_text("test:secret\n")
    return Place(
        {
            name: Store(url=f"s3://{name}/kept/here", endpoint=s3, region="us-east-1", secret_file=secret)
            for name in ("frankfurt", "dublin")
        }
    )
