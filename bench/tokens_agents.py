"""Agents of one model call whose answer streams to the caller."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, Needs, agent, backends, call, step
    from orchestrator.backends import Message

MODELS = {"instant": 64, "chat": 8}
"""The models, and how many tokens each may write."""

TIMEOUT = timedelta(seconds=60)


async def _answer(model: str, prompt: str) -> str:
    reply = await backends.model(model).chat_streaming(
        [Message.user(prompt)], max_tokens=MODELS[model], temperature=0
    )
    return reply.text


@step(needs=Needs(model="instant"), timeout=TIMEOUT, dispatch="queue")
async def instant(prompt: str) -> str:
    return await _answer("instant", prompt)


@step(needs=Needs(model="instant"), timeout=TIMEOUT, dispatch="inline")
async def instant_inline(prompt: str) -> str:
    return await _answer("instant", prompt)


@step(needs=Needs(model="chat"), timeout=TIMEOUT, dispatch="queue")
async def chat(prompt: str) -> str:
    return await _answer("chat", prompt)


@agent(steps={instant: 1}, sandboxed=False)
class Instant:
    @workflow.run
    async def run(self, prompt: str) -> str:
        return await call(instant, prompt)


@agent(steps={instant_inline: 1}, sandboxed=False)
class InstantInline:
    @workflow.run
    async def run(self, prompt: str) -> str:
        return await call(instant_inline, prompt)


@agent(steps={chat: 1}, sandboxed=False)
class Chat:
    @workflow.run
    async def run(self, prompt: str) -> str:
        return await call(chat, prompt)


application = Application(agents=[Instant, InstantInline, Chat], steps=[instant, instant_inline, chat])
