"""``panel``: sub-agents read the documents of their own jurisdictions at the same time; a judge decides."""

from __future__ import annotations

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import Field

    from activities.answers import Opinion, check, draft, judge
    from activities.retrieval import focus, retrieve
    from activities.values import Value
    from orchestrator import agent, call, handoff


class Inquiry(Value):
    """What the panel is asked."""

    question: str = Field(min_length=1)


class Decision(Value):
    """What the panel says, and who said what."""

    text: str
    grounded: bool
    """The winning opinion holds against its passages."""

    reason: str
    opinions: tuple[Opinion, ...]


READING = {retrieve: 1.0, focus: 1.0, draft: 1.0, check: 1.0}


@agent(name="european-reader", residency="EU", steps=READING)
class EuropeanReader:
    """Reads the handbook of a region in the European Union."""

    @workflow.run
    async def run(self, inquiry: Inquiry) -> Opinion:
        """Answer from what is kept there."""
        return await _read("Europe", inquiry)


@agent(name="american-reader", residency=["US", "CA", "BR"], steps=READING)
class AmericanReader:
    """Reads the handbook of a region in the Americas."""

    @workflow.run
    async def run(self, inquiry: Inquiry) -> Opinion:
        """Answer from what is kept there."""
        return await _read("America", inquiry)


@agent(name="asian-reader", residency=["SG", "JP", "KR", "IN"], steps=READING)
class AsianReader:
    """Reads the handbook of a region in Asia."""

    @workflow.run
    async def run(self, inquiry: Inquiry) -> Opinion:
        """Answer from what is kept there."""
        return await _read("Asia", inquiry)


@agent(name="panel", steps={judge: 1}, handoffs={EuropeanReader: 1, AmericanReader: 1, AsianReader: 1})
class Panel:
    """Shows handoffs: each reader has a home of its own, where its documents may not leave.

    A residency holds for the reader that declares it and all its steps: the passages stay in
    their jurisdiction, and only the question and an opinion travel. A run with a residency of its
    own narrows all of them; where that leaves a reader no place, it is refused before it starts.
    """

    @workflow.run
    async def run(self, inquiry: Inquiry) -> Decision:
        """Ask every reader, and decide."""
        opinions = await asyncio.gather(
            handoff(EuropeanReader.run, inquiry),
            handoff(AmericanReader.run, inquiry),
            handoff(AsianReader.run, inquiry),
        )
        judgement = await call(judge, list(opinions))
        winner = opinions[judgement.winner]
        return Decision(
            text=winner.text,
            grounded=winner.verdict.holds,
            reason=judgement.reason,
            opinions=opinions,
        )


async def _read(panelist: str, inquiry: Inquiry) -> Opinion:
    found = await call(retrieve, inquiry.question, 4)
    relevant = await call(focus, inquiry.question, found)
    text = await call(draft, inquiry.question, relevant)
    verdict = await call(check, inquiry.question, text, relevant)
    sources = tuple(dict.fromkeys(passage.title for passage in relevant))
    return Opinion(panelist=panelist, text=text, verdict=verdict, sources=sources)
