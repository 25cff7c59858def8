import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from orchestrator.dev import temporal_server
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import CellServer, start_cell
from orchestrator.errors import StackError


@workflow.defn(sandboxed=False)
class Greet:
    @workflow.run
    async def run(self, name: str) -> str:
        return f"hello {name}"


def cell(*, database: Path | None = None, ui: bool = False) -> CellServer:
    port, http_port, metrics_port, ui_port = free_ports(4)
    return CellServer("eu-test", port, http_port, metrics_port, ui_port if ui else None, database)


async def greet(server: CellServer, workflow_id: str) -> str:
    client = await Client.connect(server.address, namespace=server.name)
    async with Worker(client, task_queue="greet", workflows=[Greet]):
        return await client.execute_workflow(
            Greet.run, "edge", id=workflow_id, task_queue="greet", execution_timeout=timedelta(seconds=30)
        )


async def test_a_cell_runs_workflows_and_keeps_its_database(tmp_path: Path) -> None:
    workflow_id = f"greet-{uuid4()}"
    server = cell(database=tmp_path / "kept" / "eu.db", ui=True)
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(server, supervisor)
        assert await greet(server, workflow_id) == "hello edge"
        assert server.ui is not None
        assert server.ui.endswith("/namespaces/eu-test/workflows")
    server = cell(database=server.database)
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(server, supervisor)
        client = await Client.connect(server.address, namespace=server.name)
        assert await client.get_workflow_handle_for(Greet.run, workflow_id).result() == "hello edge"


@pytest.mark.parametrize("which", ["port", "ui_port"])
async def test_a_port_in_use_is_said_plainly(tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = dataclasses.replace(cell(ui=True), **{which: taken.getsockname()[1]})
        async with Supervisor(tmp_path) as supervisor:
            with pytest.raises(
                StackError, match=r"(?s)cell eu-test: its port is in use.*address already in use"
            ):
                await start_cell(server, supervisor)


async def test_a_missing_program_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(StackError, match=r"there is no program temporal .*install it"):
            await start_cell(cell(), supervisor)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small file system")
async def test_a_full_disk_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk") as disk:
        server = cell(database=disk / "eu.db")
        async with Supervisor(tmp_path / "logs") as supervisor:
            with pytest.raises(StackError, match=r"no disk space: .*disk has 0 MiB left"):
                await start_cell(server, supervisor)
            # a disk that fills up later: seen by the server itself
            monkeypatch.setattr(temporal_server, "check_space", lambda _: None)
            with pytest.raises(StackError, match=r"cell eu-test: the disk is full; free some space"):
                await start_cell(server, supervisor)
