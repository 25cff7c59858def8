"""Steps in which a model decides: which tool comes next, and what to make of the results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, JsonValue

from activities.texts import cosine
from activities.tools import TOOLS, ModelTool
from activities.values import Value
from orchestrator import Needs, backends, emit, step
from orchestrator.backends import Completion, Message, ToolCall

SHOWN = 4
"""Examples that a model sees when it picks the first tool; later half of them, each with its end."""

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
    needs=Needs(model="chat", embedding="embed"),
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
    if not knows_something(notes):
        nothing = "The tools did not help."
        emit(nothing)
        return nothing
    messages = [
        Message.system("Answer in one short sentence, from the results."),
        Message.user('Results: distance: {"kilometres": 2004.1}\nHow far is it from Rome to Oslo?'),
        Message.assistant("It is 2004.1 kilometres from Rome to Oslo."),
        Message.user(f"Results: {_known(notes)}\n{question}"),
    ]
    reply = await backends.model("chat").chat_streaming(messages, max_tokens=80, temperature=0, stop=["\n"])
    return reply.text.strip()


@step(
    needs=Needs(model="chat"),
    timeout=timedelta(seconds=120),
    expected=(timedelta(milliseconds=500), timedelta(seconds=2)),
)
async def find_places(question: str) -> list[str]:
    """The cities that a question names, two at most, in its order.

    What a model takes for one and the question does not say is left out.
    """
    shape = {
        "type": "object",
        "properties": {"cities": {"type": "array", "items": {"type": "string"}, "maxItems": 2}},
        "required": ["cities"],
        "additionalProperties": False,
    }
    messages = [Message.system("Which cities does the question name?")]
    for asked, cities in (
        ("What is a task queue?", []),
        ("How big is Lima?", ["Lima"]),
        ("How far is it from Rome to New Delhi?", ["Rome", "New Delhi"]),
    ):
        messages += [Message.user(asked), Message.assistant(json.dumps({"cities": cities}))]
    found = (await _shaped([*messages, Message.user(question)], shape)).parsed["cities"]
    named = {city.casefold(): city for city in found if city.strip()}
    return [city for key, city in named.items() if key in question.casefold()]


def knows_something(notes: Sequence[Note]) -> bool:
    """Whether a tool has said something that an answer can be made of."""
    return any(not note.failed for note in notes)


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
    examples = await _nearest_examples(question, tools)
    knows = knows_something(notes)
    menu = "\n".join(f"{name}: {tool.description.description}" for name, tool in tools.items())
    messages = [Message.system(f"Pick the tool that helps to answer.\n{menu}\n{FINISH}: the result is known")]
    for name, asked, arguments in examples[-(SHOWN // 2 if knows else SHOWN) :]:
        messages += [Message.user(asked), Message.assistant(json.dumps({"tool": name}))]
        if knows:
            messages.append(Message.user(f"Known: {name}: {json.dumps(arguments)}\n{asked}"))
            messages.append(Message.assistant(json.dumps({"tool": FINISH})))
    messages.append(Message.user(f"Known: {_known(notes)}\n{question}" if knows else question))
    picked = (await _shaped(messages, _one_of([*tools, FINISH] if knows else [*tools]))).parsed["tool"]
    if picked == FINISH:
        return Choice(tool=None)
    tool = tools[picked]
    messages = [Message.system(f"Write the arguments of the tool {picked}: {tool.description.description}")]
    for name, asked, arguments in examples:
        if name == picked:
            messages += [Message.user(asked), Message.assistant(json.dumps(arguments))]
    messages.append(Message.user(question))
    return Choice(tool=picked, arguments=(await _shaped(messages, tool.takes.model_json_schema())).parsed)


async def _nearest_examples(
    question: str, tools: dict[str, ModelTool]
) -> list[tuple[str, str, dict[str, JsonValue]]]:
    """Tool, question and arguments of each example, the nearest last: that one a small model copies."""
    examples = [
        (name, asked, arguments.model_dump())
        for name, tool in tools.items()
        for asked, arguments in tool.examples
    ]
    wanted, *vectors = await backends.model("embed").embed(
        [question, *(asked for _, asked, _ in examples)], purpose="query"
    )
    scored = sorted(zip(vectors, examples, strict=True), key=lambda pair: cosine(wanted, pair[0]))
    return [example for _, example in scored]


def _one_of(names: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"tool": {"enum": names}},
        "required": ["tool"],
        "additionalProperties": False,
    }


async def _shaped(messages: Sequence[Message], shape: dict[str, Any]) -> Completion:
    return await backends.model("chat").chat(
        messages, schema=shape, schema_name="choice", temperature=0, max_tokens=100
    )


def _known(notes: Sequence[Note]) -> str:
    return "; ".join(f"{note.tool}: {note.said}" for note in notes if not note.failed)
