"""Agents and steps with large values."""

from datetime import timedelta

from temporalio import workflow

from orchestrator import Application, Needs, agent, call, handoff, step

MEBIBYTE = 1024 * 1024


@step(needs=Needs(tool="press"), timeout=timedelta(seconds=20))
async def enlarge(text: str, mebibytes: int) -> str:
    """Runs where the press is."""
    return text[:10] + "y" * mebibytes * MEBIBYTE


@step(expected=timedelta(milliseconds=20), timeout=timedelta(seconds=20))
async def measure(text: str) -> int:
    """Runs at home, inline."""
    return len(text)


@agent(steps={measure: 1})
class Measuring:
    """A sub-agent."""

    @workflow.run
    async def run(self, text: str) -> int:
        return await call(measure, text)


@agent(steps={enlarge: 1, measure: 1}, handoffs={Measuring: 1})
class Pressing:
    """A large input, a large argument and result of a step elsewhere, of a sub-agent and of the run."""

    @workflow.run
    async def run(self, text: str) -> str:
        pressed = await call(enlarge, text, 3)
        assert await call(measure, pressed) == len(pressed)
        assert await handoff(Measuring.run, pressed) == len(pressed)
        return pressed


@agent(steps={enlarge: 1})
class Again:
    """Goes on as new with a large input."""

    @workflow.run
    async def run(self, text: str) -> int:
        if text.startswith("x"):
            workflow.continue_as_new("z" + text[1:])
        return len(text)


@agent(steps={})
class Listening:
    """Takes a signal."""

    def __init__(self) -> None:
        self._heard: str | None = None

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self._heard is not None)
        return len(self._heard or "")

    @workflow.signal
    def hear(self, text: str) -> None:
        self._heard = text


application = Application(agents=[Measuring, Pressing, Again, Listening], steps=[enlarge, measure])
