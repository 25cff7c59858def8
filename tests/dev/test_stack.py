import asyncio
import dataclasses
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from temporalio.client import Client

from orchestrator.backends import Backends, Message
from orchestrator.dev.processes import free_ports
from orchestrator.dev.stack import Stack, StackOptions, worker_command
from orchestrator.dev.state import StackFolder, running_stack
from orchestrator.errors import StackError
from orchestrator.geography import resolve_origin
from orchestrator.topology import load_topology
from tests.dev.processes_seen import alive, children_of
from tests.signals import interruptible

HANDBOOK = """\
# Handbook

## Regions

A region is a place with workers. It has coordinates, a country and offers.

## Cells

A cell is one Temporal cluster and namespace. It keeps the histories of runs.
"""


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("docs") / "handbook.md"
    file.write_text(HANDBOOK)
    return file


@pytest.fixture(scope="module")
async def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, handbook: Path, lines: list[str]
) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    options = StackOptions(
        regions=("eu-central", "us-east"),
        directory=folder / "state",
        persist=folder / "kept",
        docs=(handbook,),
        model_threads=1,
    )
    async with Stack(options, progress=lines.append) as running:
        yield running


async def test_cells_answer_and_keep_their_histories(stack: Stack) -> None:
    for cell in stack.topology.cells:
        client = await Client.connect(str(cell.address), namespace=str(cell.namespace))
        assert await client.service_client.check_health()
        assert stack.options.persist is not None
        assert (stack.options.persist / f"{cell.name}.db").stat().st_size > 0
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(str(cell.ui), follow_redirects=True)).status_code == 200


async def test_a_question_is_answered_from_the_handbook_in_every_region(stack: Stack) -> None:
    for region in stack.topology.regions:
        async with Backends(region) as backends:
            question = "What keeps the histories of runs?"
            [vector] = await backends.model("embed").embed([question], purpose="query")
            [hit] = await backends.collection("handbook").search(vector, limit=1)
            assert hit.payload["title"] == "Handbook › Cells"
            asked = Message.user(f"Text: {hit.payload['text']}\nQuestion: {question} Answer from the text.")
            reply = await backends.model("chat").chat([asked], max_tokens=40, temperature=0)
            assert "cluster" in reply.text.casefold()
            value = await backends.tool("calculator").call({"expression": "6 * 7"})
            assert "42" in value.text


async def test_progress_says_what_is_ready(stack: Stack, lines: list[str]) -> None:
    text = "\n".join(lines)
    for what in (
        "cell       eu-central  http",
        "model      smollm2",
        "model      multilingual",
        "tools      ",
    ):
        assert what in text
    assert "handbook   2 passages of 1 files in 2 regions  ready in" in text
    assert lines[-1].startswith("stack      ready in")


async def test_other_commands_find_it(stack: Stack) -> None:
    found = running_stack(stack.options.directory)
    assert found.pid == os.getpid()
    assert found.regions == ("eu-central", "us-east")
    loaded = load_topology(found.topology)
    assert loaded.model_copy(update={"source": stack.topology.source}) == stack.topology


async def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match=r"a stack runs in .* already; use that one with"):
        async with Stack(stack.options):
            pass
    assert running_stack(stack.options.directory).pid == os.getpid()


async def test_a_view_is_as_far_as_the_origin(stack: Stack) -> None:
    async with stack.view_from(resolve_origin("eu-central", _places(stack))) as seen:
        assert seen.cell("eu-central") == stack.topology.cell("eu-central")
        assert seen.cell("us-east").address != stack.topology.cell("us-east").address
        near, far = [
            await _shortest_call(str(seen.cell(name).address), name) for name in ("eu-central", "us-east")
        ]
    assert far >= 0.0926
    assert far > 3 * near
    async with stack.view_from(resolve_origin("Lisbon", {})) as seen:
        assert seen.cell("eu-central").address != stack.topology.cell("eu-central").address


async def _shortest_call(address: str, namespace: str) -> float:
    client = await Client.connect(address, namespace=namespace)
    loop = asyncio.get_running_loop()
    times: list[float] = []
    for _ in range(7):
        start = loop.time()
        await client.service_client.check_health()
        times.append(loop.time() - start)
    return min(times)


def _places(stack: Stack) -> dict[str, tuple[float, float]]:
    return {region.name: region.coordinates for region in stack.topology.regions}


async def test_a_process_that_ends_is_named(tmp_path: Path) -> None:
    options = StackOptions(regions=("eu-central",), directory=tmp_path, docs=(), ui=False, model_threads=1)
    async with Stack(options) as running:
        waiting = asyncio.create_task(running.failure())
        [tools] = [process for process in running._servers.processes if process.name == "tools"]
        os.kill(tools.pid, signal.SIGKILL)
        assert "tools: ended with status -9" in str(await asyncio.wait_for(waiting, 30))
    with pytest.raises(RuntimeError, match="does not run"):
        _ = running.topology
    with pytest.raises(StackError, match=r"no stack runs in .*start one with `edgeward up`"):
        running_stack(tmp_path)


REFUSED = StackOptions(regions=("eu-central",), docs=(), ui=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"regions": ("atlantis",)}, "unknown region 'atlantis'; choose from"),
        ({"docs": (Path("/nowhere.md"),)}, "there is no document /nowhere.md"),
        ({"first_port": 65_530}, "ports 65530 to 65537 are not all between"),
        ({"first_port": 80}, "ports 80 to 87 are not all between"),
        ({"directory": Path("/proc/nowhere")}, "cannot use the folder /proc/nowhere"),
    ],
)
async def test_what_cannot_start_starts_nothing(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    before = children_of(os.getpid())
    options = dataclasses.replace(REFUSED, **{"directory": tmp_path, **change})
    with pytest.raises(StackError, match=reason):
        async with Stack(options):
            pass
    assert children_of(os.getpid()) <= before


async def test_a_fixed_port_in_use_is_said_plainly(tmp_path: Path) -> None:
    [first] = free_ports(1)
    reason = rf"port {first + 2} \(tools\) is in use; .*takes {first} to"
    with socket.create_server(("127.0.0.1", first + 2)), pytest.raises(StackError, match=reason):
        async with Stack(dataclasses.replace(REFUSED, directory=tmp_path, first_port=first)):
            pass


async def test_a_start_that_fails_halfway_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = children_of(os.getpid())
    (tmp_path / "weights.gguf").write_text("none")
    monkeypatch.setattr("orchestrator.dev.stack.found_weights", lambda: tmp_path / "weights.gguf")
    with pytest.raises(StackError, match=r"(?s)model: ended with status 1 .*cannot serve the model"):
        async with Stack(dataclasses.replace(REFUSED, directory=tmp_path)):
            pass
    assert not {pid for pid in children_of(os.getpid()) - before if alive(pid)}


def test_workers_are_started_by_the_command_line(tmp_path: Path) -> None:
    command = worker_command("app:application", "eu-central", tmp_path / "view.toml")
    assert command[:3] == [sys.executable, "-m", "orchestrator.cli"]
    assert command[3:] == [
        *("worker", "run", "app:application", "--region", "eu-central"),
        *("--topology", str(tmp_path / "view.toml")),
    ]


def test_a_state_that_is_not_written_yet(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    with folder.taken():
        with pytest.raises(StackError, match="is still starting"):
            running_stack(tmp_path)
        folder.write_state(["eu-central"], "workflows:app")
        assert json.loads((tmp_path / "stack.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "stack.json").exists()
    with pytest.raises(StackError, match="no stack runs"):
        running_stack(tmp_path / "elsewhere")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("after", ["tools      ", "stack      ready"])
async def test_no_process_outlives_the_stack(
    tmp_path: Path, handbook: Path, number: signal.Signals, after: str
) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.dev.start_stack", str(tmp_path), str(handbook)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=interruptible,
    )
    assert parent.stdout is not None
    try:
        seen: set[int] = set()
        async with asyncio.timeout(120):
            while not (line := (await parent.stdout.readline()).decode()).startswith(after):
                assert line, "the stack did not come up"
        seen = children_of(parent.pid)
        assert len(seen) >= 3
        parent.send_signal(number)
        assert await asyncio.wait_for(parent.wait(), 30) == (130 if number is signal.SIGINT else -number)
        async with asyncio.timeout(10):
            while any(alive(pid) for pid in seen):
                await asyncio.sleep(0.05)
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()
