"""What the page of a run shows, as values: written into it as JSON, drawn by its script.

Times on the chart are milliseconds since the run's start; heights are pixels.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestrator.placement import Dispatch


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Heading(_Value):
    """What the run was, in one look."""

    agent: str
    workflow_id: str
    run_id: str
    status: str
    error: str | None
    cell: str | None
    home: str | None
    home_country: str | None
    origin: str | None
    residency: str | None
    started_at: str
    """As people read it, in UTC."""

    wall_ms: float
    predicted_ms: float | None
    orchestration_ms: float | None
    slowest: str | None
    """Where most of the time went, in words."""

    steps: int
    places: int
    waits_for: tuple[str, ...]
    notes: tuple[str, ...]


class Lane(_Value):
    """One region on the chart."""

    name: str
    detail: str
    """Its country, and whether it is the run's home."""

    y: float
    height: float


class Segment(_Value):
    """One coloured stretch of a bar."""

    bar: int
    part: str
    """A part of a step as in ``PARTS``; ``start``, ``pause``, ``open``; or of a call: ``connect``,
    ``first_token``, ``decode``, ``call``."""

    began_ms: float
    ended_ms: float
    y: float
    height: float


class Bar(_Value):
    """A step, pause or agent on the chart."""

    id: int
    kind: Literal["step", "pause", "agent"]
    name: str
    lane: str
    began_ms: float
    ended_ms: float
    """Of one that is open: when the history was read."""

    is_open: bool
    is_critical: bool
    predicted_end_ms: float | None
    y: float
    height: float
    """Of the coloured bar; its name stands above it, where there is room."""

    step: int | None
    """Index of the step that it shows."""

    title: str
    """For those who hear the chart, and for the tooltip."""


class Link(_Value):
    """How the critical path gets from one bar to the next."""

    from_ms: float
    to_ms: float
    from_y: float
    to_y: float


class Call(_Value):
    """One call of a step to a backend."""

    name: str
    operation: str | None
    took_ms: float
    connect_ms: float | None
    first_token_ms: float | None
    decode_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    tokens_per_second: float | None
    retries: int
    error: str | None


class StepEntry(_Value):
    """One step as the list and the receipt show it."""

    agent: str
    name: str
    place: str | None
    country: str | None
    ran_in: str | None
    dispatch: Dispatch
    attempts: int
    began_ms: float
    wall_ms: float | None
    predicted_ms: float | None
    parts: dict[str, float] | None
    calls: tuple[Call, ...]
    calls_left_out: int
    error: str | None
    why_moved: tuple[str, ...]
    """Why it is not where its plan has it first; empty if it is."""

    is_critical: bool
    receipt: int | None
    """Index of its receipt; None where the run has no plan of it."""

    regret_ms: float | None


class CandidateEntry(_Value):
    """A region that could have run a step, and the prediction."""

    region: str
    country: str | None
    dispatch: Dispatch
    parts: dict[str, float]
    """In the names of what they turn into: ``dispatch``, ``network``, ``transfer``, ``queue_wait``,
    ``execution``."""

    predicted_ms: float


class ExclusionEntry(_Value):
    """A region that could not, and why."""

    region: str
    rule: str
    reason: str


class Receipt(_Value):
    """Why a step ran where it ran."""

    step: str
    agent: str
    home: str
    residency: str
    candidates: tuple[CandidateEntry, ...]
    excluded: tuple[ExclusionEntry, ...]


class Spot(_Value):
    """A region, or the origin, on the map."""

    name: str
    role: Literal["origin", "home", "place", "region"]
    longitude: float
    latitude: float
    detail: str


class Leg(_Value):
    """A stretch of the run's path over the globe."""

    role: Literal["start", "handoff", "step"]
    """From the origin to the home; from a home to that of a sub-agent; from a home to a place."""

    coordinates: tuple[tuple[float, float], tuple[float, float]]
    """Longitude and latitude of both ends, in degrees."""

    count: int
    """How often the run went that way."""


class Map(_Value):
    """The regions and the run's path."""

    centre: float
    """The longitude in the middle, in degrees."""

    frame: tuple[tuple[float, float], ...]
    """Points that have to be seen, longitude and latitude in degrees."""

    spots: tuple[Spot, ...]
    legs: tuple[Leg, ...]
    summary: str
    """For those who do not see it."""


class Page(_Value):
    """All of it."""

    heading: Heading
    span_ms: float
    chart_height: float
    is_roomy: bool
    """Whether each bar has its name above it."""

    names_turn_at: float
    """Bars that begin after this share of the chart have their names aligned with their ends."""

    first_step: int | None
    """Index of the step whose receipt is open at first: the slowest on the critical path."""

    lanes: tuple[Lane, ...]
    bars: tuple[Bar, ...]
    segments: tuple[Segment, ...]
    links: tuple[Link, ...]
    steps: tuple[StepEntry, ...]
    receipts: tuple[Receipt, ...]
    map: Map
