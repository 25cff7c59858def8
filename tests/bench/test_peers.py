"""What the bench of the peers compares, and how it talks to its runners."""

import asyncio
import json

from bench.peers_classes import (
    DBOS_SQLITE,
    DISPATCHED,
    EDGEWARD_BESIDE,
    EDGEWARD_DISK,
    EDGEWARD_EARLY,
    EDGEWARD_MEMORY,
    IN_PROCESS,
    LANGGRAPH_TASKS,
    RESTATE,
    RESTATE_UNSYNCED,
    TEMPORALIO_DISK,
    TEMPORALIO_MEMORY,
    as_durable,
    goals,
)
from bench.peers_runners.protocol import STEPS, serve
from orchestrator.dev.processes import free_ports, port_answers

TIMES_MS = {
    EDGEWARD_MEMORY: [10.0],
    EDGEWARD_DISK: [30.0],
    EDGEWARD_BESIDE: [12.0],
    EDGEWARD_EARLY: [1.0],
    TEMPORALIO_MEMORY: [20.0],
    TEMPORALIO_DISK: [25.0],
    RESTATE_UNSYNCED: [15.0],
    RESTATE: [60.0],
    DBOS_SQLITE: [15.0],
    LANGGRAPH_TASKS: [5.0],
}


def test_a_peer_counts_where_it_is_at_least_as_durable() -> None:
    measured = list(TIMES_MS)
    assert as_durable(EDGEWARD_MEMORY, DISPATCHED, measured) == [
        TEMPORALIO_MEMORY,
        TEMPORALIO_DISK,
        RESTATE_UNSYNCED,
        RESTATE,
    ]
    assert as_durable(EDGEWARD_DISK, DISPATCHED, measured) == [TEMPORALIO_DISK, RESTATE]
    assert as_durable(EDGEWARD_BESIDE, IN_PROCESS, measured) == [DBOS_SQLITE, LANGGRAPH_TASKS]


def test_each_goal_is_a_ratio_to_the_fastest_peer_of_its_class() -> None:
    found = goals(TIMES_MS)
    assert [(goal["value"], goal["holds"]) for goal in found] == [(0.667, True), (1.2, False), (2.4, False)]
    assert "edgeward, disk over temporalio, disk (30.0 and 25.0 ms)" in found[1]["name"]


def test_a_class_without_a_peer_has_no_goal() -> None:
    assert goals({EDGEWARD_MEMORY: [10.0], EDGEWARD_DISK: [30.0]}) == []


async def test_a_runner_answers_lines_and_hangs_up_where_a_run_fails() -> None:
    async def ask(number: int) -> int:
        if number < 0:
            raise ValueError("a run that fails")
        return number + STEPS

    [port] = free_ports(1)
    serving = asyncio.create_task(serve(port, ask))
    while not await port_answers(port):
        await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"1\n2\n")
    replies = [json.loads(await reader.readline()) for _ in range(2)]
    assert [reply["answer"] for reply in replies] == [1 + STEPS, 2 + STEPS]
    assert all(reply["took_ms"] >= 0 for reply in replies)
    # asyncio reports the failure of a conversation to its loop: that is the runner's log
    loop = asyncio.get_running_loop()
    reported: asyncio.Future[BaseException] = loop.create_future()
    loop.set_exception_handler(lambda _, context: reported.set_result(context["exception"]))
    try:
        writer.write(b"-1\n")
        assert await reader.readline() == b""
        assert "a run that fails" in str(await reported)
    finally:
        loop.set_exception_handler(None)
        writer.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
