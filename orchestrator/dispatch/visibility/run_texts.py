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

    Two lists: the UI shows them in half of its width, where tables and paragraphs read badly.

    Args:
        plan: Of the run; for a sub-agent the part that it was given.
    """
    lines = [*_home(plan), "", *_parts(plan)]
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
    cell = "" if plan.cell == root.home else f" · cell {plan.cell}"
    yield f"- **home {root.home}**{cell} · residency {root.residency} · user in {plan.origin.label}"
    if plan.homes:
        first, *others = plan.homes
        told = "".join(f" · from {home.region} {_ms(home.latency_ms)}" for home in others[:2])
        yield f"- predicted **{_ms(first.latency_ms)}**{told}"
    if plan.excluded_homes:
        yield f"- excluded: {_excluded(plan.excluded_homes)}"


def _parts(plan: Plan) -> Iterator[str]:
    for step in plan.root.steps.values():
        if step.expected_calls > 0:
            yield f"- {_step(step, plan.excluded_homes)}"
    for below in plan.root.handoffs.values():
        yield f"- sub-agent `{below.agent}` → **{below.home}**"


def _step(step: StepPlan, told: Mapping[str, Exclusion]) -> str:
    # what the same rule excludes for the whole run stands there once
    excluded = {
        region: exclusion
        for region, exclusion in step.excluded.items()
        if region not in told or told[region].rule != exclusion.rule
    }
    why = f" · excluded: {_excluded(excluded)}" if excluded else ""
    if not step.candidates:
        return f"`{step.step}` has no place{why}"
    chosen, *others = step.candidates
    line = f"`{step.step}` → **{chosen.region}** · {chosen.dispatch} · {_ms(chosen.cost.predicted_ms)}"
    if others:
        line += f" · in {others[0].region} {_ms(others[0].cost.predicted_ms)}"
    return line + why


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
