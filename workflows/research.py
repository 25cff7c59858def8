"""``research``: retrieve, answer, check the answer, and retrieve again if it does not hold."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import Field

    from activities.answers import answer, check
    from activities.retrieval import Passage, focus, quote, retrieve
    from activities.values import Value
    from orchestrator import agent, call


class Question(Value):
    """What is asked of the handbook."""

    question: str = Field(min_length=1)
    k: int = Field(default=4, ge=1, le=20)
    """How many passages each round looks at."""

    rounds: int = Field(default=2, ge=1, le=5)
    """How often it may look for other passages and try again."""


class Answer(Value):
    """What the handbook says, as far as it does."""

    text: str
    grounded: bool
    """The model's answer holds against the passages. If none did, the text quotes the handbook."""

    score: float
    """How well it holds, from 0 to 1; of a quote: 0."""

    sources: tuple[str, ...]
    """Titles of the passages."""

    rounds: int


@agent(name="research", steps={retrieve: 1.3, focus: 1.3, answer: 1.3, check: 1.3, quote: 0.3})
class Research:
    """Shows a loop over steps whose number is not known beforehand; the plan weighs the expected one.

    A round that fails looks at the passages after those that it has seen: an answer that did not
    hold is seldom mended by the same text. When no round holds, the nearest sentence is quoted, so
    that the user gets what the handbook says and nothing that it does not.
    """

    @workflow.run
    async def run(self, question: Question) -> Answer:
        """Answer a question from the handbook."""
        seen: list[Passage] = []
        done = 0
        while done < question.rounds:
            found = await call(retrieve, question.question, question.k, done * question.k)
            if not found:
                break
            done += 1
            seen += found
            relevant = await call(focus, question.question, found)
            text = await call(answer, question.question, relevant)
            verdict = await call(check, question.question, text, relevant)
            if verdict.holds:
                sources = tuple(dict.fromkeys(passage.title for passage in relevant))
                return Answer(text=text, grounded=True, score=verdict.score, sources=sources, rounds=done)
        said = await call(quote, question.question, seen)
        sources = (said.source,) if said.source is not None else ()
        return Answer(text=said.text, grounded=False, score=0.0, sources=sources, rounds=done)
