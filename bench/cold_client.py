"""Runs an agent several times in turn; as a process of its own, it is a client that never ran before.

The process imports what it needs, says ``ready``, waits for a line, and then prints what each
run took in milliseconds, as JSON. Its first run includes connecting.
"""

import asyncio
import json
import sys
import time

from bench.cold_agents import AGENTS, Question, application, right
from orchestrator import EdgeClient


async def timed_runs(client: EdgeClient, agent: str, count: int) -> list[float]:
    """How long each run took, in milliseconds.

    Raises:
        AssertionError: An answer is wrong.
    """
    times: list[float] = []
    for number in range(count):
        question = Question(text="Why is the sky blue?", number=number)
        began = time.perf_counter()
        run = await client.start(AGENTS[agent].run, question, origin="here")
        answer = await run.result()
        times.append((time.perf_counter() - began) * 1000)
        assert right(agent, question, answer), f"{agent} answered {answer} to {question}"
    return times


async def fresh_runs(topology: str, agent: str, count: int) -> dict[str, object]:
    began = time.perf_counter()
    async with await EdgeClient.connect(topology, application=application) as client:
        connected_ms = (time.perf_counter() - began) * 1000
        times = await timed_runs(client, agent, count)
    return {"connect_ms": connected_ms, "runs_ms": times}


def main() -> None:
    topology, agent, count = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(fresh_runs(topology, agent, int(count)))), flush=True)


if __name__ == "__main__":
    main()
