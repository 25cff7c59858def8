"""The chart of a run: a lane for each region, in it a bar for each step, pause and agent, and the path.

What is open at the same time in one region stands in rows below each other; what follows shares a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal, NamedTuple

from orchestrator.timing import CallTiming
from orchestrator.trace.page_values import Bar, Lane, Link, Segment
from orchestrator.trace.parts import StepParts
from orchestrator.trace.pauses import Pause
from orchestrator.trace.run_trace import RunTrace, StepTrace

NOWHERE = "no region"
"""The lane of what history gives no place: steps of ordinary queues, pauses of runs without a home."""

NOMINAL_WIDTH = 900.0
"""Pixels of the chart, where it matters before it is drawn: whether a name fits before the next bar."""

LETTER_WIDTH = 6.6
"""Pixels of a letter of a name, on average."""

LANE_PADDING = 9.0
"""Pixels above and below the rows of a lane."""


LEAST_LANE = 44.0
"""Pixels that a lane takes at the least: its name and country."""

LEAST_PAUSE_MS = 0.1
"""Shorter pauses are left out: nobody waited, and their names would hide those of steps."""

CALL_INSET = 3.0
"""Pixels of a step's body that are seen above and below its calls."""


class RowSize(NamedTuple):
    """How high a row is, in pixels."""

    name: float
    """Above the bar; nothing where names do not fit."""

    bar: float
    gap: float

    @property
    def height(self) -> float:
        """All of it."""
        return self.name + self.bar + self.gap


ROOMY, DENSE = RowSize(15.0, 13.0, 7.0), RowSize(0.0, 13.0, 3.0)

ROOMY_UP_TO = 80
"""Bars; of more, the names are only drawn into bars that are wide enough."""


@dataclass(frozen=True)
class Chart:
    """Everything that is drawn of the run's time."""

    span_ms: float
    height: float
    is_roomy: bool
    """Whether each bar has its name above it."""

    lanes: tuple[Lane, ...]
    bars: tuple[Bar, ...]
    segments: tuple[Segment, ...]
    links: tuple[Link, ...]


@dataclass(frozen=True)
class _Item:
    """A bar that has no row yet."""

    kind: Literal["step", "pause", "agent"]
    name: str
    lane: str
    began_ms: float
    ended_ms: float
    is_open: bool
    is_critical: bool
    source: StepTrace | Pause | RunTrace
    step: int | None = None


def chart_of(run: RunTrace, steps: Mapping[int, int], details: Mapping[str, str]) -> Chart:
    """The chart of a run.

    Args:
        run: The run.
        steps: Index of each step in the page's list, by its ``id``.
        details: What to say below each region's name.
    """
    clock = _Clock(run)
    items = sorted(_items(run, clock, steps), key=lambda item: (item.kind != "agent", item.began_ms))
    size = ROOMY if len(items) <= ROOMY_UP_TO else DENSE
    lanes: list[Lane] = []
    bars: list[Bar] = []
    segments: list[Segment] = []
    y = 0.0
    for name in _lane_names(run, items):
        inside = [item for item in items if item.lane == name]
        rows = _rows(inside, clock.span_ms, with_names=size.name > 0)
        height = max(LEAST_LANE, 2 * LANE_PADDING + (max(rows, default=0) + 1) * size.height - size.gap)
        lanes.append(Lane(name=name, detail=details.get(name, ""), y=y, height=height))
        for item, row in zip(inside, rows, strict=True):
            bar = _bar(len(bars), item, y + LANE_PADDING + row * size.height + size.name, size.bar)
            bars.append(bar)
            segments.extend(_segments(bar, item.source))
        y += height
    return Chart(
        span_ms=clock.span_ms,
        height=y,
        is_roomy=size is ROOMY,
        lanes=tuple(lanes),
        bars=tuple(bars),
        segments=tuple(segments),
        links=tuple(_links(bars)),
    )


class _Clock:
    """Moments as milliseconds since the run's start."""

    def __init__(self, run: RunTrace) -> None:
        self._began = run.started_at
        self._until = run.ended_at or run.read_at
        ends = [self._until, *(step.ended_at for step in run.all_steps() if step.ended_at)]
        self.span_ms = max(1.0, (max(ends) - self._began) / timedelta(milliseconds=1))

    def at(self, moment: datetime | None) -> float:
        """A moment; what is open ends where the history does."""
        since_ms = ((moment or self._until) - self._began) / timedelta(milliseconds=1)
        return round(min(self.span_ms, max(0.0, since_ms)), 3)


def _items(
    agent: RunTrace, clock: _Clock, steps: Mapping[int, int], *, on_path: bool = True
) -> Iterator[_Item]:
    lane = agent.home or NOWHERE

    def item(
        kind: Literal["step", "pause", "agent"],
        source: StepTrace | Pause | RunTrace,
        name: str,
        where: str,
        ended_at: datetime | None,
    ) -> _Item:
        began_ms = clock.at(source.began_at)
        return _Item(
            kind=kind,
            name=name,
            lane=where,
            began_ms=began_ms,
            ended_ms=max(began_ms, clock.at(ended_at)),
            is_open=ended_at is None,
            is_critical=on_path and source.on_critical_path,
            source=source,
            step=steps.get(id(source)),
        )

    yield item("agent", agent, agent.agent, lane, agent.resumed_at or agent.ended_at)
    for pause in agent.pauses:
        if pause.wall_ms is None or pause.wall_ms >= LEAST_PAUSE_MS:
            yield item("pause", pause, pause.name, lane, pause.ended_at)
    for step in agent.steps:
        yield item("step", step, step.step, step.ran_in or step.place or NOWHERE, step.ended_at)
    for below in agent.sub_agents:
        yield from _items(below, clock, steps, on_path=on_path and below.on_critical_path)


def _lane_names(run: RunTrace, items: Sequence[_Item]) -> list[str]:
    """The home first, then in the order in which the run came there; what has no region last."""
    ordered = sorted(items, key=lambda item: item.began_ms)
    names = dict.fromkeys([run.home or NOWHERE, *(item.lane for item in ordered)])
    return sorted(names, key=lambda name: name == NOWHERE)


def _rows(items: Sequence[_Item], span_ms: float, *, with_names: bool) -> list[int]:
    """The row of each: the first in which it, and its name, meet nothing else."""
    free_from: list[list[tuple[float, float]]] = []
    rows: list[int] = []
    agents = 0
    for item in items:
        extent = _extent(item, span_ms) if with_names else (item.began_ms, item.ended_ms)
        first = 0 if item.kind == "agent" else agents
        row = next(
            (row for row in range(first, len(free_from)) if _is_free(free_from[row], extent)), len(free_from)
        )
        if row == len(free_from):
            free_from.append([])
        free_from[row].append(extent)
        if item.kind == "agent":
            agents = len(free_from)
        rows.append(row)
    return rows


def _is_free(taken: Sequence[tuple[float, float]], extent: tuple[float, float]) -> bool:
    # they come in order of their beginnings, so the last ones are those that could be met
    return all(end <= extent[0] or begin >= extent[1] for begin, end in reversed(taken))


def _extent(item: _Item, span_ms: float) -> tuple[float, float]:
    """From where to where a bar and its name reach; near the right edge names go to the left."""
    name_ms = (len(item.name) + 9) * LETTER_WIDTH / NOMINAL_WIDTH * span_ms
    if item.began_ms > NAMES_TURN_AT * span_ms:
        return min(item.began_ms, item.ended_ms - name_ms), item.ended_ms
    return item.began_ms, max(item.ended_ms, item.began_ms + name_ms)


NAMES_TURN_AT = 0.8
"""Of the run's time: bars that begin later have their names aligned with their ends."""


def _bar(number: int, item: _Item, y: float, height: float) -> Bar:
    predicted_ms = item.source.predicted_ms if isinstance(item.source, StepTrace) else None
    return Bar(
        id=number,
        kind=item.kind,
        name=item.name,
        lane=item.lane,
        began_ms=item.began_ms,
        ended_ms=item.ended_ms,
        is_open=item.is_open,
        is_critical=item.is_critical,
        predicted_end_ms=None if predicted_ms is None else item.began_ms + predicted_ms,
        y=y,
        height=height,
        step=item.step,
        title=_title(item),
    )


def _title(item: _Item) -> str:
    took = "going on" if item.is_open else f"{item.ended_ms - item.began_ms:,.0f} ms"
    where = f" in {item.lane}" if item.lane != NOWHERE else ""
    critical = ", on the critical path" if item.is_critical else ""
    return f"{item.kind} {item.name}{where}: {took}{critical}"


def _segments(bar: Bar, source: StepTrace | Pause | RunTrace) -> Iterator[Segment]:
    if isinstance(source, RunTrace):
        thin = bar.height / 2 - 1.5
        start_ms = min(source.start_ms or 0.0, bar.ended_ms - bar.began_ms)
        yield _segment(bar, "agent", bar.began_ms, bar.ended_ms, inset=thin)
        if start_ms > 0:
            yield _segment(bar, "start", bar.began_ms, bar.began_ms + start_ms, inset=thin)
    elif isinstance(source, Pause):
        yield _segment(bar, "pause", bar.began_ms, bar.ended_ms)
    elif source.parts is None:
        yield _segment(bar, "open", bar.began_ms, bar.ended_ms)
    else:
        yield from _step_segments(bar, source.parts, source.calls)


def _step_segments(bar: Bar, parts: StepParts, calls: Sequence[CallTiming]) -> Iterator[Segment]:
    """The parts of a step one after the other, and its calls inside its body."""
    at_ms = bar.began_ms
    for part, took_ms in parts.by_name().items():
        if took_ms > 0:
            yield _segment(bar, part, at_ms, at_ms + took_ms)
        if part == "execution":
            for call in calls:
                for name, began_ms, ended_ms in _call_parts(call, took_ms):
                    yield _segment(bar, name, at_ms + began_ms, at_ms + ended_ms, inset=CALL_INSET)
        at_ms += took_ms


def _segment(bar: Bar, part: str, began_ms: float, ended_ms: float, *, inset: float = 0.0) -> Segment:
    return Segment(
        bar=bar.id,
        part=part,
        began_ms=round(began_ms, 3),
        ended_ms=round(ended_ms, 3),
        y=bar.y + inset,
        height=bar.height - 2 * inset,
    )


def _call_parts(call: CallTiming, execution_ms: float) -> Iterator[tuple[str, float, float]]:
    """The stretches of one call, in milliseconds since the body began; none goes beyond the body."""
    if call.began_ms is None:
        return
    began_ms = min(max(0.0, call.began_ms), execution_ms)
    ended_ms = min(began_ms + call.took_ms, execution_ms)
    connected_ms = min(began_ms + (call.connect_ms or 0.0), ended_ms)
    if connected_ms > began_ms:
        yield "connect", began_ms, connected_ms
    if call.first_token_ms is None:
        yield "call", connected_ms, ended_ms
        return
    first_ms = min(max(connected_ms, began_ms + call.first_token_ms), ended_ms)
    yield "first_token", connected_ms, first_ms
    if ended_ms > first_ms:
        yield "decode", first_ms, ended_ms


def _links(bars: Sequence[Bar]) -> Iterator[Link]:
    """From each bar of the critical path to the next one; agents are not on it, only what they did."""
    path = sorted(
        (bar for bar in bars if bar.is_critical and bar.kind != "agent"),
        key=lambda bar: (bar.began_ms, bar.ended_ms),
    )
    for bar, following in pairwise(path):
        yield Link(
            from_ms=min(bar.ended_ms, following.began_ms),
            to_ms=following.began_ms,
            from_y=bar.y + bar.height,
            to_y=following.y + following.height,
        )
