"""A TCP proxy that cuts connections, as networks do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class CuttingProxy:
    """Forwards to a port of this machine, and breaks each connection after so many bytes of answer."""

    def __init__(self, target: int, bytes_each: int) -> None:
        self.connections = 0
        self._target = target
        self._bytes_each = bytes_each

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answers, asking = await asyncio.open_connection("127.0.0.1", self._target)
        forwarding = asyncio.create_task(self._forward(reader, asking))
        left = self._bytes_each
        with contextlib.suppress(OSError):
            while left and (data := await answers.read(left)):
                left -= len(data)
                writer.write(data)
                await writer.drain()
        forwarding.cancel()
        # what was written arrives, then the connection is gone: in the middle of a line
        writer.close()
        asking.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
