"""The five steps in LangGraph with its SQLite checkpointer: as a graph's nodes, or as tasks.

Synchronous code, which is quicker than the asynchronous checkpointer.
"""

import uuid
from collections.abc import Callable
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph

from bench.peers_runners.protocol import STEPS, options, serve_synchronously


class State(TypedDict):
    number: int


def node(state: State) -> State:
    return {"number": state["number"] + 1}


@task
def add_one(number: int) -> int:
    return number + 1


def own_thread() -> RunnableConfig:
    """A run of its own, with checkpoints of its own."""
    return {"configurable": {"thread_id": uuid.uuid4().hex}}


def nodes(saver: SqliteSaver) -> Callable[[int], int]:
    builder = StateGraph(State)
    names = [f"step {number}" for number in range(STEPS)]
    for name in names:
        builder.add_node(name, node)
    for source, target in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(source, target)
    graph = builder.compile(checkpointer=saver)

    def ask(number: int) -> int:
        return graph.invoke({"number": number}, own_thread(), durability="sync")["number"]

    return ask


def tasks(saver: SqliteSaver) -> Callable[[int], int]:
    @entrypoint(checkpointer=saver)
    def five(number: int) -> int:
        for _ in range(STEPS):
            number = add_one(number).result()
        return number

    def ask(number: int) -> int:
        return five.invoke(number, own_thread(), durability="sync")

    return ask


def main() -> None:
    given = options("database", "steps")
    with SqliteSaver.from_conn_string(given.database) as saver:
        serve_synchronously(given.port, {"nodes": nodes, "tasks": tasks}[given.steps](saver))


main()
