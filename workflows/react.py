"""``react``: a model chooses a tool, reads what it says, and goes on until it knows enough."""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from pydantic import Field, ValidationError, field_validator

    from activities.choices import Choice, Note, Style, choose, conclude
    from activities.tools import TOOLS
    from activities.values import Value
    from orchestrator import agent, call


class Task(Value):
    """Something to find out with tools."""

    task: str = Field(min_length=1)
    tools: tuple[str, ...] = Field(default=tuple(TOOLS), min_length=1)
    """What the model may use."""

    max_turns: int = Field(default=4, ge=1, le=20)
    """How many tools it may use, one after the other."""

    style: Style = "schema"
    """``native`` for models with tool calls of their own; ``schema`` works with every endpoint."""

    @field_validator("tools")
    @classmethod
    def _exist(cls, tools: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(tools) - set(TOOLS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is no tool; choose from {', '.join(TOOLS)}")
        return tools


class Finding(Value):
    """What was found out, and how."""

    text: str
    notes: tuple[Note, ...]
    """The tools that were used, in order."""

    turns: int
    """How often the model chose."""


@agent(name="react", steps={choose: 2, conclude: 1})
class React:
    """Shows steps that a model picks at run time: each tool is a step, placed where it is offered.

    Tools are not declared: nobody knows which one a run will use, so they are placed and do not
    weigh, and one that the run's residency rules out keeps no run from starting. The loop ends
    when the model has enough, when it repeats itself, or at ``max_turns``. A tool that reports an
    error, or may not be used, has said something too; the model may try otherwise.
    """

    @workflow.run
    async def run(self, task: Task) -> Finding:
        """Find something out."""
        notes: list[Note] = []
        turns = 0
        while turns < task.max_turns:
            choice = await call(choose, task.task, notes, list(task.tools), task.style)
            turns += 1
            if choice.tool is None or _is_known(choice, notes):
                break
            notes.append(await self._use(choice.tool, choice))
        text = await call(conclude, task.task, notes)
        return Finding(text=text, notes=tuple(notes), turns=turns)

    async def _use(self, name: str, choice: Choice) -> Note:
        tool = TOOLS[name]
        try:
            arguments = tool.takes.model_validate(choice.arguments)
        except ValidationError as error:
            wrong = ", ".join(str(finding["loc"][0]) for finding in error.errors() if finding["loc"])
            return Note(tool=name, arguments=choice.arguments, said=f"wrong arguments: {wrong}", failed=True)
        try:
            seen = await call(tool.step, arguments)
        except ApplicationError as error:
            if error.type != "PlacementError":
                raise
            return Note(tool=name, arguments=choice.arguments, said="not allowed in this run", failed=True)
        return Note(tool=name, arguments=choice.arguments, said=seen.text, failed=seen.failed)


def _is_known(choice: Choice, notes: list[Note]) -> bool:
    return any(note.tool == choice.tool and note.arguments == choice.arguments for note in notes)
