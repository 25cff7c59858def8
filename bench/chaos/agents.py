"""What runs while things break: inline and queued steps, a model that streams, and a sub-agent.

Each step has one effect in the ledger, and each run an answer that its caller can check.
"""

from datetime import timedelta

from temporalio import workflow

from bench.chaos.doubles import filed, said
from bench.chaos.ledger import effect
from orchestrator import Application, Needs, agent, backends, call, handoff, step
from orchestrator.backends import Message

TIMEOUT = timedelta(seconds=10)
"""Of each step: thirty times of what it takes, as operators choose it."""

BACKEND_TIMEOUT = timedelta(seconds=9)
"""Of each request: a service that is twenty times slower still answers."""

EXPECTED = {
    "archive": (timedelta(milliseconds=220), timedelta(milliseconds=260)),
    "chat": (timedelta(milliseconds=320), timedelta(milliseconds=360)),
}
"""p50 and p95 where nothing has been learned yet: a region that comes back is then preferred again."""

SEQUENCE = ("note", "fetch", "ask", "look")
"""A run's effects, in the order in which they happen."""


@step(kind="code", dispatch="inline", timeout=TIMEOUT, expected=timedelta(milliseconds=5))
async def note(order: int) -> str:
    """Inline at the run's home."""
    return await effect(order, "note")


@step(needs=Needs(tool="archive"), dispatch="queue", timeout=TIMEOUT, expected=EXPECTED["archive"])
async def fetch(order: int) -> str:
    """Queued, and not at home: the home has no archive. Its effect is there before it is done."""
    booked = await effect(order, "fetch")
    found = await backends.tool("archive").call({"order": order}, timeout=BACKEND_TIMEOUT)
    return f"{booked}: {found.text}"


@step(needs=Needs(model="chat"), dispatch="queue", timeout=TIMEOUT, expected=EXPECTED["chat"])
async def ask(order: int) -> str:
    """Queued, and streamed. Its effect is there when the model has answered."""
    reply = await backends.model("chat").chat_streaming(
        [Message.user(f"order {order}")], max_tokens=16, temperature=0, timeout=BACKEND_TIMEOUT
    )
    return f"{await effect(order, 'ask')}: {reply.text}"


@step(needs=Needs(tool="archive"), dispatch="inline", timeout=TIMEOUT, expected=EXPECTED["archive"])
async def look(order: int) -> str:
    """Inline at the sub-agent's home, which is where the archive is."""
    booked = await effect(order, "look")
    found = await backends.tool("archive").call({"order": order}, timeout=BACKEND_TIMEOUT)
    return f"{booked}: {found.text}"


@agent(steps={look: 1}, sandboxed=False)
class Clerk:
    @workflow.run
    async def run(self, order: int) -> str:
        return await call(look, order)


@agent(steps={note: 1, fetch: 1, ask: 1}, handoffs={Clerk: 1 / 3}, on_cell_loss="restart", sandboxed=False)
class Errand:
    """Its steps have their effects under idempotency keys, so it may be started again elsewhere."""

    @workflow.run
    async def run(self, order: int) -> str:
        done = [await call(note, order), await call(fetch, order), await call(ask, order)]
        if hands_off(order):
            clerk = f"{workflow.info().workflow_id}/clerk"
            done.append(await handoff(Clerk.run, order, id=clerk))
        return "; ".join(done)


@agent(steps={ask: 1}, sandboxed=False)
class Question:
    """One call of a model, for measuring capacity."""

    @workflow.run
    async def run(self, order: int) -> str:
        return await call(ask, order)


def hands_off(order: int) -> bool:
    """Whether this run has a sub-agent: every third does."""
    return order % 3 == 0


def effects_expected(agent_class: type, order: int) -> tuple[str, ...]:
    """Which effects a run has, in their order."""
    if agent_class is Question:
        return ("ask",)
    return SEQUENCE if hands_off(order) else SEQUENCE[:-1]


def expected_answer(agent_class: type, order: int) -> str:
    """What the caller must get."""
    parts = {
        "note": f"note {order}",
        "fetch": f"fetch {order}: {filed(order)}",
        "ask": f"ask {order}: {said(order)}",
        "look": f"look {order}: {filed(order)}",
    }
    return "; ".join(parts[what] for what in effects_expected(agent_class, order))


def requests_expected(agent_class: type, order: int) -> int:
    """Requests to models and tools of a run in which nothing is repeated."""
    return sum(what != "note" for what in effects_expected(agent_class, order))


application = Application(agents=[Errand, Clerk, Question], steps=[note, fetch, ask, look])
