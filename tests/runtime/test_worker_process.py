"""The worker as operators run it: a process of its own, against real servers."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from orchestrator import EdgeClient
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.temporal_server import start_cell
from orchestrator.dev.topology_file import topology_file
from orchestrator.topology import Topology
from tests.dispatch.conftest import server, three_regions
from tests.runtime.slow import Slow, application

APPLICATION = "tests.runtime.slow:application"
CHECKOUT = Path(__file__).resolve().parent.parent.parent


@asynccontextmanager
async def worker(
    topology: Topology, folder: Path, *more: str, application: str = APPLICATION
) -> AsyncIterator[asyncio.subprocess.Process]:
    file = folder / "topology.toml"
    file.write_text(topology_file(topology), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator.cli", "worker", "run", application),
        *("--region", "frankfurt", "--topology", str(file), "--log-format", "json", *more),
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def events(process: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert process.stderr is not None
    async for line in process.stderr:
        if line.startswith(b"{"):
            yield json.loads(line)


async def event(lines: AsyncIterator[dict[str, Any]], name: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        async for line in lines:
            if line["event"] == name:
                return line
    raise AssertionError(f"the worker ended without {name}")


async def test_a_worker_tells_its_queues_is_ready_drains_and_ends(tmp_path: Path) -> None:
    europe, america = server("europe"), server("america")
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with Supervisor(tmp_path) as supervisor:
        await asyncio.gather(start_cell(europe, supervisor), start_cell(america, supervisor))
        topology = three_regions(europe.address, america.address, {"frankfurt": control})
        async with worker(topology, tmp_path) as process:
            lines = events(process)
            polled: set[tuple[str, str]] = set()
            while len(polled) < 6:
                line = await event(lines, "queue.polled")
                polled.add((line["cell"], line["queue"]))
            assert polled == {
                (cell, queue)
                for cell in ("europe", "america")
                for queue in ("frankfurt.agents", "frankfurt.homebound", "frankfurt.code")
            }
            async with httpx.AsyncClient(base_url=control) as http:
                assert (await http.get("/healthz")).status_code == 200
                ready = await http.get("/readyz")
                assert (ready.status_code, ready.json()["cells"]) == (
                    200,
                    {"europe": "polling", "america": "polling"},
                )
                status = (await http.get("/status")).json()
                assert (status["region"], status["state"]) == ("frankfurt", "up")
                gate = tmp_path / "gate"
                async with await EdgeClient.connect(topology, application=application, watch=False) as client:
                    run = await client.start(Slow.run, str(gate), origin="frankfurt")
                    async for piece in run.stream():
                        assert piece.text == "started"
                        process.send_signal(signal.SIGTERM)
                        await event(lines, "worker.draining")
                        assert (await http.get("/readyz")).status_code == 503
                        gate.touch()
                        break
                    # the step that was running is finished by the draining worker
                    await event(lines, "worker.stopped")
                    assert await process.wait() == 0
                    (step,) = await run.steps()
                    assert (step.error, step.attempts, step.ended_at is not None) == (None, 1, True)


async def test_a_cell_that_is_away_does_not_keep_the_worker_from_the_others(tmp_path: Path) -> None:
    europe = server("europe")
    control = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        topology = three_regions(europe.address, "127.0.0.1:1", {"frankfurt": control})
        async with worker(topology, tmp_path) as process:
            lines = events(process)
            seen = {(await event(lines, name))["cell"] for name in ("cell.unavailable", "queue.polled")}
            assert seen <= {"europe", "america"}
            async with httpx.AsyncClient(base_url=control) as http, asyncio.timeout(30):
                while (ready := await http.get("/readyz")).json()["cells"].get("europe") != "polling":
                    await asyncio.sleep(0.05)
                assert ready.status_code == 200
                assert ready.json()["cells"]["america"].startswith("unavailable: ")


async def test_an_application_that_cannot_be_served_ends_the_worker_with_the_reason(tmp_path: Path) -> None:
    europe = server("europe")
    async with Supervisor(tmp_path) as supervisor:
        await start_cell(europe, supervisor)
        topology = three_regions(europe.address, "127.0.0.1:1", {})
        async with worker(topology, tmp_path, application="tests.runtime.broken:application") as process:
            async with asyncio.timeout(60):
                _, told = await process.communicate()
    assert process.returncode == 2
    message = told.decode().splitlines()[-1]
    assert message.startswith("edgeward: the application cannot be served: Failed validating workflow Broken")
    assert "random.random" in message


async def test_what_an_operator_gets_wrong_is_one_line_and_exit_code_two(tmp_path: Path) -> None:
    topology = three_regions("127.0.0.1:1", "127.0.0.1:2", {})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with worker(topology, tmp_path, "--listen", f"127.0.0.1:{port}") as process:
            _, told = await process.communicate()
    assert process.returncode == 2
    assert f"cannot listen at 127.0.0.1:{port}" in told.decode()
    async with worker(topology, tmp_path, "--region", "atlantis") as process:
        _, told = await process.communicate()
    assert process.returncode == 2
    assert told.decode().count("\n") == 1
    assert "region 'atlantis' is not in" in told.decode()
