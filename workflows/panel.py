"""``panel``: experts with homes of their own look into a question at the same time; a judge decides."""

from __future__ import annotations

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import Field

    from activities.answers import Report, answer, check, judge
    from activities.choices import find_places
    from activities.retrieval import Passage, focus, quote, retrieve
    from activities.tools import City, Journey, Observation, distance, local_time, population
    from activities.values import Value
    from orchestrator import agent, call, handoff


class Inquiry(Value):
    """What the panel is asked."""

    question: str = Field(min_length=1)


class Matter(Value):
    """What an expert is asked."""

    question: str
    places: tuple[str, ...] = ()
    """Cities that the question names."""


class Decision(Value):
    """What the panel says, and on whose report."""

    text: str
    grounded: bool
    """The answer holds against the report."""

    expert: str | None
    """Whose report bears on the question most; None where nobody's does."""

    reason: str
    reports: tuple[Report, ...]


@agent(name="librarian", steps={retrieve: 1, focus: 1})
class Librarian:
    """Knows the handbook."""

    @workflow.run
    async def run(self, matter: Matter) -> Report:
        """What the handbook says."""
        found = await call(retrieve, matter.question, 4)
        return Report(expert="librarian", passages=tuple(await call(focus, matter.question, found)))


@agent(name="statistician", steps={population: 1.5, local_time: 1.5})
class Statistician:
    """Knows figures of cities."""

    @workflow.run
    async def run(self, matter: Matter) -> Report:
        """How many people live in each city, and what time it is there."""
        found: list[Passage] = []
        for place in matter.places:
            city = City(city=place)
            found += _passage("population", place, await call(population, city))
            found += _passage("local time", place, await call(local_time, city))
        return Report(expert="statistician", passages=tuple(found))


@agent(name="surveyor", steps={distance: 1})
class Surveyor:
    """Knows distances."""

    @workflow.run
    async def run(self, matter: Matter) -> Report:
        """How far the first two cities are from each other."""
        if len(matter.places) < 2:
            return Report(expert="surveyor")
        start, end, *_ = matter.places
        seen = await call(distance, Journey(origin=start, destination=end))
        return Report(expert="surveyor", passages=tuple(_passage("distance", f"{start} to {end}", seen)))


@agent(
    name="panel",
    steps={find_places: 1, judge: 1, answer: 1, check: 1, quote: 0.3},
    handoffs={Librarian: 1, Statistician: 1, Surveyor: 1},
)
class Panel:
    """Shows handoffs: each expert is a sub-agent, and its home is where its own steps are nearest.

    The statistician's tools may be far from the panel. At home beside them, all its steps are inline,
    and the whole chain costs one round trip; as steps of the panel, each would cost one.
    """

    @workflow.run
    async def run(self, inquiry: Inquiry) -> Decision:
        """Ask every expert, and answer from the report that bears on the question."""
        question = inquiry.question
        matter = Matter(question=question, places=tuple(await call(find_places, question)))
        reports = await asyncio.gather(
            handoff(Librarian.run, matter), handoff(Statistician.run, matter), handoff(Surveyor.run, matter)
        )
        judgement = await call(judge, question, list(reports))
        if judgement.winner is None:
            return Decision(
                text="The panel does not know.",
                grounded=False,
                expert=None,
                reason=judgement.reason,
                reports=reports,
            )
        winner = reports[judgement.winner]
        passages = [passage for passage in winner.passages if passage.id in judgement.passages]
        text = await call(answer, question, passages)
        verdict = await call(check, question, text, passages)
        if not verdict.holds:
            text = (await call(quote, question, passages)).text
        return Decision(
            text=text,
            grounded=verdict.holds,
            expert=winner.expert,
            reason=f"{judgement.reason}; {verdict.reason}",
            reports=reports,
        )


def _passage(title: str, of: str, seen: Observation) -> list[Passage]:
    if seen.failed:
        return []
    return [Passage(id=f"{title}-{of}", title=f"{title}, {of}", text=f"{title}: {seen.text}", score=0.0)]
