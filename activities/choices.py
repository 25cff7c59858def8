"""Steps in which a model decides: which tool comes next, and what to make of the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, JsonValue

from activities.tools import TOOLS, ModelTool
from activities.values import Value
from orchestrator import Needs, backends, step
from orchestrator.backends import Completion, Message, ToolCall

FINISH = "answer"
"""What a model chooses instead of a tool when it knows enough."""

Style = Literal["schema", "native"]
"""How a model says which tool it wants. ``native``: as tool calls, where the endpoint has them.
``schema``: as JSON of a given shape, which every endpoint can and small models need."""


class Note(Value):
    """A tool that has been used, and what it said."""

    tool: str
    arguments: dict[str, JsonValue]
    said: str
    failed: bool = False


class Choice(Value):
    """What the model wants next."""

    tool: str | None
    """None: it knows enough."""

    arguments: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(milliseconds=800), timedelta(seconds=3)),
)
async def choose(question: str, notes: list[Note], tools: list[str], style: Style = "schema") -> Choice:
    """Which tool the model wants next, with its arguments.

    Args:
        question: What is to be found out.
        notes: What has been found out so far.
        tools: The tools it may use, by their names in ``activities.tools.TOOLS``.
        style: How it says so.
    """
    offered = {name: TOOLS[name] for name in tools}
    if style == "native":
        return await _by_tool_call(question, notes, offered)
    return await _by_schema(question, notes, offered)


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(seconds=1), timedelta(seconds=4)),
)
async def conclude(question: str, notes: list[Note]) -> str:
    """The answer that follows from the notes, streamed to the user as the model writes it."""
    messages = [
        Message.system("Answer in one short sentence, from the results."),
        Message.user('Results: distance: {"kilometres": 2004.1}\nHow far is it from Rome to Oslo?'),
        Message.assistant("It is 2004.1 kilometres from Rome to Oslo."),
        Message.user(f"Results: {_known(notes) or 'none'}\n{question}"),
    ]
    reply = await backends.model("chat").chat_streaming(messages, max_tokens=80, temperature=0, stop=["\n"])
    return reply.text.strip()


async def _by_tool_call(question: str, notes: Sequence[Note], tools: dict[str, ModelTool]) -> Choice:
    messages = [
        Message.system("Use the tools to find out what you need; then answer."),
        Message.user(question),
    ]
    for number, note in enumerate(notes):
        call = ToolCall(id=f"call-{number}", name=note.tool, arguments=note.arguments)
        messages += [
            Message.assistant(tool_calls=[call]),
            Message.tool(note.said, tool_call_id=call.id),
        ]
    reply = await backends.model("chat").chat(
        messages, tools=[tool.description for tool in tools.values()], temperature=0, max_tokens=200
    )
    wanted = next((call for call in reply.tool_calls if call.name in tools), None)
    return Choice(tool=wanted.name, arguments=wanted.arguments) if wanted else Choice(tool=None)


async def _by_schema(question: str, notes: Sequence[Note], tools: dict[str, ModelTool]) -> Choice:
    """Two small questions instead of a big one: which tool, then its arguments."""
    menu = "\n".join(f"{name}: {tool.description.description}" for name, tool in tools.items())
    messages = [Message.system(f"Pick the tool that helps to answer.\n{menu}\n{FINISH}: the result is known")]
    for name, tool in tools.items():
        messages += [Message.user(tool.example[0]), Message.assistant(json.dumps({"tool": name}))]
    for name, tool in list(tools.items())[:2]:
        messages += [
            Message.user(f"Known: {name}: …\n{tool.example[0]}"),
            Message.assistant(json.dumps({"tool": FINISH})),
        ]
    known = f"Known: {_known(notes)}\n" if notes else ""
    messages.append(Message.user(f"{known}{question}"))
    shape = {
        "type": "object",
        "properties": {"tool": {"enum": [*tools, FINISH] if notes else list(tools)}},
        "required": ["tool"],
        "additionalProperties": False,
    }
    picked = (await _shaped(messages, shape, "choice")).parsed["tool"]
    if picked == FINISH:
        return Choice(tool=None)
    tool = tools[picked]
    asked, arguments = tool.example
    messages = [
        Message.system(f"Write the arguments of the tool {picked}: {tool.description.description}"),
        Message.user(asked),
        Message.assistant(arguments.model_dump_json()),
        Message.user(question),
    ]
    reply = await _shaped(messages, tool.takes.model_json_schema(), picked)
    return Choice(tool=picked, arguments=reply.parsed)


async def _shaped(messages: Sequence[Message], shape: dict[str, Any], name: str) -> Completion:
    return await backends.model("chat").chat(
        messages, schema=shape, schema_name=name, temperature=0, max_tokens=100
    )


def _known(notes: Sequence[Note]) -> str:
    return "; ".join(f"{note.tool}: {note.said}" for note in notes)
