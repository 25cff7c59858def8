"""What Temporal's UI shows of a run's plan: one line, and the details in Markdown.

Both travel in the start and are kept by the history, beside the whole plan, which only Edgeward reads.
Region names, rules and times stand in them, never a run's data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.placement import AgentPlan, Exclusion, Plan, StepPlan

SUMMARY_CHARACTERS = 190
"""Temporal's limit is 400 bytes, its envelope and the application's codec included."""

DETAILS_BYTES = 4000
"""Temporal's limit is 20,000. A start to a far cell is no place for more than is read at a glance."""

STEPS = 30
"""So many steps and sub-agents have a line each."""

REGIONS = 4
"""So many excluded regions are named for each rule."""


def summary_of(plan: Plan) -> str:
    """The run in a line: ``home eu-central · 412 ms predicted · residency EU``."""
    return _cut(f"home {plan.home} · {_ms(plan.latency_ms)} predicted · residency {plan.residency}")


def sub_agent_summary(agent: AgentPlan) -> str:
    """A sub-agent in a line: ``statistician → eu-central · residency EU``."""
    return _cut(f"{agent.agent} → {agent.home} · residency {agent.residency}")


def details_of(plan: Plan) -> str:
    """Home and places of a run and why, a line each: Markdown.

    Args:
        plan: Of the run; for a sub-agent the part that it was given.
    """
    lines = [*_home(plan), "", *_parts(plan.root)]
    taken: list[str] = []
    left_bytes = DETAILS_BYTES
    for line in lines:
        left_bytes -= len(line.encode()) + 1
        if left_bytes < 0 or len(taken) > STEPS:
            taken.append(f"- … {len(lines) - len(taken)} more: `edgeward trace RUN --why STEP`")
            break
        taken.append(line)
    return "\n".join(taken)


def _home(plan: Plan) -> Iterator[str]:
    root = plan.root
    yield (
        f"**Home {root.home}** in cell {plan.cell} · residency {root.residency} · user in {plan.origin.label}"
    )
    if plan.homes:
        first, *others = plan.homes
        ranked = [f"{home.region} {_ms(home.latency_ms)}" for home in (first, *others[:2])]
        yield ""
        yield f"Predicted for the whole run: **{ranked[0]}**" + "".join(f" · {text}" for text in ranked[1:])
    if plan.excluded_homes:
        yield ""
        yield f"No home: {_excluded(plan.excluded_homes)}"


def _parts(agent: AgentPlan) -> Iterator[str]:
    for step in agent.steps.values():
        if step.expected_calls > 0:
            yield f"- {_step(step)}"
    for below in agent.handoffs.values():
        yield f"- sub-agent `{below.agent}` → **{below.home}**"


def _step(step: StepPlan) -> str:
    if not step.candidates:
        return f"`{step.step}` has no place · excluded: {_excluded(step.excluded)}"
    chosen, *others = step.candidates
    told = f"`{step.step}` → **{chosen.region}** · {chosen.dispatch} · {_ms(chosen.cost.predicted_ms)}"
    if others:
        told += f" · next best {others[0].region} {_ms(others[0].cost.predicted_ms)}"
    if step.excluded:
        told += f" · excluded: {_excluded(step.excluded)}"
    return told


def _excluded(excluded: Mapping[str, Exclusion]) -> str:
    """By rule: ``us-east, us-west (residency); dubai (needs)``."""
    by_rule: dict[str, list[str]] = {}
    for region, exclusion in excluded.items():
        by_rule.setdefault(exclusion.rule, []).append(region)
    return "; ".join(f"{_named(regions)} ({rule})" for rule, regions in by_rule.items())


def _named(regions: list[str]) -> str:
    named = ", ".join(regions[:REGIONS])
    return named if len(regions) <= REGIONS else f"{named} and {len(regions) - REGIONS} more"


def _ms(time_ms: float) -> str:
    return f"{time_ms:,.0f} ms"


def _cut(text: str) -> str:
    return text if len(text) <= SUMMARY_CHARACTERS else text[: SUMMARY_CHARACTERS - 1] + "…"
