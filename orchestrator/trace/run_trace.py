"""The trace of one run: its steps, pauses and sub-agents with their parts, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, computed_field

from orchestrator.dispatch import EarlierPlace
from orchestrator.placement import Dispatch, Plan
from orchestrator.timing import CallTiming
from orchestrator.trace.parts import StepParts
from orchestrator.trace.pauses import Pause


class StepTrace(BaseModel):
    """One step of a run."""

    model_config = ConfigDict(frozen=True)

    agent: str
    step: str
    sequence: int | None
    activity_id: str
    place: str | None
    ran_in: str | None
    """Where the worker says that it runs; None where it said nothing."""

    dispatch: Dispatch
    attempts: int
    began_at: datetime
    ended_at: datetime | None
    predicted_ms: float | None
    parts: StepParts | None
    calls: tuple[CallTiming, ...] = ()
    """To models, collections and tools, as the worker told them; of very many, those that took longest."""

    calls_left_out: int = 0
    error: str | None = None
    earlier: tuple[EarlierPlace, ...] = ()
    """The places that should have done it before, and did not: each has a row of its own."""

    passed_over: tuple[EarlierPlace, ...] = ()
    """The places that its plan preferred, and why it did not go there."""

    hedge: bool = False
    """Whether it ran in another place at the same time, which took unusually long."""

    on_critical_path: bool = False

    @computed_field
    @property
    def wall_ms(self) -> float | None:
        """From the call in the agent's code to the turn that has the result; None while it goes on."""
        return None if self.ended_at is None else _ms(self.ended_at - self.began_at)

    @property
    def why_moved(self) -> tuple[str, ...]:
        """Why it is not where its plan has it first, for people; empty if it is."""
        found: list[str] = []
        if self.earlier:
            found.append(f"came to {self.place} after {_places(self.earlier)}")
        if self.passed_over:
            found.append(f"went to {self.place} instead of {_places(self.passed_over)}")
        return tuple(found)


class Slowest(BaseModel):
    """The one part of a run that took longest, among those on its critical path."""

    model_config = ConfigDict(frozen=True)

    part: str
    """Of a step as in ``PARTS``; ``start`` of a run or sub-agent; ``pause``."""

    name: str
    """Of the step, agent or pause."""

    agent: str
    place: str | None
    """Where the step ran, or the agent's home; None for a pause, and where nothing tells."""

    took_ms: float
    of_ms: float
    """Of the whole run."""

    @property
    def in_words(self) -> str:
        """What it was, for people: ``queue wait of answer in eu-central``."""
        where = f" in {self.place}" if self.place else ""
        match self.part:
            case "pause":
                return f"waiting for {self.name}"
            case "start":
                return f"start of {self.name}{where}"
            case _:
                return f"{self.part.replace('_', ' ')} of {self.name}{where}"


class RunTrace(BaseModel):
    """One run, or one sub-agent of it."""

    model_config = ConfigDict(frozen=True)

    agent: str
    workflow_id: str
    run_id: str
    cell: str | None
    home: str | None
    origin: str | None
    residency: str | None
    status: str
    error: str | None
    started_at: datetime
    ended_at: datetime | None
    read_at: datetime
    predicted_ms: float | None
    start_ms: float | None
    """From its acceptance by the cell to the first turn of its code; None before that."""

    steps: tuple[StepTrace, ...] = ()
    pauses: tuple[Pause, ...] = ()
    sub_agents: tuple[RunTrace, ...] = ()
    began_at: datetime
    """When the agent above called it; of the run itself when it was accepted."""

    resumed_at: datetime | None
    """When the agent above had its answer; of the run itself when it ended."""

    on_critical_path: bool = True
    waits_for: tuple[str, ...] = ()
    earlier_runs: tuple[str, ...] = ()
    """Temporal's run ids of the runs before it in its chain (continue-as-new, retries, schedules),
    oldest first; at most ``CHAIN_LIMIT``."""

    continued_as: str | None = None
    """Temporal's run id of the next run in its chain."""

    history_is_gone: bool = False
    """Only what the history of the agent above tells of it is known."""

    notes: tuple[str, ...] = ()
    """What cannot be told, and why."""

    plan: Plan | None = Field(default=None, exclude=True)

    @computed_field
    @property
    def wall_ms(self) -> float:
        """From start to end, or to now."""
        return max(0.0, _ms((self.ended_at or self.read_at) - self.started_at))

    @computed_field
    @property
    def orchestration_ms(self) -> float | None:
        """What the critical path took beside the bodies of its steps and its pauses.

        None while the run goes on, and where the critical path leads through a step that never
        came back or a sub-agent whose history is gone.
        """
        path = [agent for agent in self.all_agents(critical=True)]
        steps = [step for agent in path for step in agent.steps if step.on_critical_path]
        if self.ended_at is None or any(agent.history_is_gone for agent in path):
            return None
        if any(step.parts is None for step in steps):
            return None
        bodies_ms = sum(step.parts.execution_ms for step in steps if step.parts)
        pauses_ms = sum(
            pause.wall_ms or 0.0 for agent in path for pause in agent.pauses if pause.on_critical_path
        )
        return max(0.0, self.wall_ms - bodies_ms - pauses_ms)

    @computed_field
    @property
    def slowest(self) -> Slowest | None:
        """Where most of the time went, in one part; None before the run's first turn has begun."""
        return max(self._parts_of_path(), key=lambda part: part.took_ms, default=None)

    def all_steps(self) -> Iterator[StepTrace]:
        """Its own steps and those of its sub-agents."""
        for agent in self.all_agents():
            yield from agent.steps

    def all_agents(self, *, critical: bool = False) -> Iterator[RunTrace]:
        """Itself and its sub-agents.

        Args:
            critical: Only those whose time is the run's.
        """
        yield self
        for below in self.sub_agents:
            if below.on_critical_path or not critical:
                yield from below.all_agents(critical=critical)

    def critical_steps(self) -> Iterator[StepTrace]:
        """Those whose time is the run's, below sub-agents that are on the path too."""
        for agent in self.all_agents(critical=True):
            yield from (step for step in agent.steps if step.on_critical_path)

    def _parts_of_path(self) -> Iterator[Slowest]:
        of_ms = self.wall_ms
        for agent in self.all_agents(critical=True):
            if agent.start_ms is not None:
                yield Slowest(
                    part="start",
                    name=agent.agent,
                    agent=agent.agent,
                    place=agent.home,
                    took_ms=agent.start_ms,
                    of_ms=of_ms,
                )
            for pause in agent.pauses:
                if pause.on_critical_path and pause.wall_ms is not None:
                    yield Slowest(
                        part="pause",
                        name=pause.name,
                        agent=agent.agent,
                        place=None,
                        took_ms=pause.wall_ms,
                        of_ms=of_ms,
                    )
            for step in agent.steps:
                if step.on_critical_path and step.parts is not None:
                    part, took_ms = max(step.parts.by_name().items(), key=lambda item: item[1])
                    yield Slowest(
                        part=part,
                        name=step.step,
                        agent=agent.agent,
                        place=step.place,
                        took_ms=took_ms,
                        of_ms=of_ms,
                    )


def _places(places: tuple[EarlierPlace, ...]) -> str:
    return "; ".join(f"{one.place} ({one.reason})" for one in places)


def _ms(duration: timedelta) -> float:
    return duration / timedelta(milliseconds=1)
