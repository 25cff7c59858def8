"""A user's own application: two steps, as the README teaches."""

from datetime import timedelta

from pydantic import BaseModel
from temporalio import workflow

from orchestrator import Application, Needs, agent, backends, call, step
from orchestrator.backends import Message


class Guided(BaseModel):
    text: str
    passages: list[str]


@step(needs=Needs(collection="handbook", embedding="embed"), timeout=timedelta(seconds=20))
async def find(question: str, k: int = 2) -> list[str]:
    [vector] = await backends.model("embed").embed([question], purpose="query")
    return [str(hit.payload["text"]) for hit in await backends.collection("handbook").search(vector, limit=k)]


@step(needs=Needs(model="chat"), timeout=timedelta(seconds=60))
async def say(question: str, passages: list[str]) -> str:
    prompt = "\n".join([*passages, question])
    reply = await backends.model("chat").chat_streaming([Message.user(prompt)], max_tokens=12, temperature=0)
    return reply.text


@agent(name="guide", steps={find: 1, say: 1})
class Guide:
    @workflow.run
    async def run(self, question: str) -> Guided:
        passages = await call(find, question)
        return Guided(text=await call(say, question, passages), passages=passages)


app = Application(agents=[Guide], steps=[find, say])
