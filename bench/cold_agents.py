"""What the cold-start benchmark runs: five steps that do nothing, and one that asks a model."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic import BaseModel

    from orchestrator import Application, Needs, agent, backends, call, step
    from orchestrator.backends import Message

STEPS = 5


class Question(BaseModel):
    text: str
    number: int


class Answer(BaseModel):
    text: str
    number: int


@step(kind="code", dispatch="inline")
async def note(question: Question) -> Answer:
    return Answer(text=question.text, number=question.number + 1)


@step(needs=Needs(model="chat"), timeout=timedelta(seconds=60), dispatch="inline")
async def reply(question: Question) -> Answer:
    prompt = f"Question {question.number}: {question.text} Answer in one sentence."
    completion = await backends.model("chat").chat([Message.user(prompt)], max_tokens=8, temperature=0)
    return Answer(text=completion.text, number=question.number + 1)


@agent(steps={note: STEPS})
class Sandboxed:
    @workflow.run
    async def run(self, question: Question) -> Answer:
        return await _chain(question)


@agent(steps={note: STEPS}, sandboxed=False)
class Unsandboxed:
    @workflow.run
    async def run(self, question: Question) -> Answer:
        return await _chain(question)


@agent(steps={reply: 1})
class Asked:
    @workflow.run
    async def run(self, question: Question) -> Answer:
        return await call(reply, question)


async def _chain(question: Question) -> Answer:
    answer = Answer(text=question.text, number=question.number)
    for _ in range(STEPS):
        answer = await call(note, Question(text=answer.text, number=answer.number))
    return answer


application = Application(agents=[Sandboxed, Unsandboxed, Asked], steps=[note, reply])

AGENTS = {"sandboxed": Sandboxed, "unsandboxed": Unsandboxed, "model": Asked}


def right(agent: str, question: Question, answer: Answer) -> bool:
    """Whether the answer is one of this agent to this question."""
    if agent == "model":
        return bool(answer.text.strip()) and answer.number == question.number + 1
    return answer == Answer(text=question.text, number=question.number + STEPS)
