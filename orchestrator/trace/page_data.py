"""From the trace of a run to what its page shows. Pure: the same trace gives the same page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta

from orchestrator.geography import country_name
from orchestrator.placement import Candidate, StepPlan
from orchestrator.timing import CallTiming
from orchestrator.topology import Region, Topology
from orchestrator.trace.page_layout import NAMES_TURN_AT, NOWHERE, chart_of
from orchestrator.trace.page_map import map_of
from orchestrator.trace.page_values import (
    Call,
    CandidateEntry,
    ExclusionEntry,
    Heading,
    Page,
    Receipt,
    StepEntry,
)
from orchestrator.trace.receipt import regret_ms
from orchestrator.trace.run_trace import RunTrace


def page_of(run: RunTrace, topology: Topology) -> Page:
    """What the page of a run shows.

    Args:
        run: The trace of a run, with its plan where it has one.
        topology: Countries and coordinates of its regions; a region that it lacks is shown without.
    """
    regions = {region.name: region for region in topology.regions}
    receipts = _Receipts(regions)
    critical = {id(step) for step in run.critical_steps()}
    entries: list[StepEntry] = []
    numbers: dict[int, int] = {}
    found = [(agent, step) for agent in run.all_agents() for step in agent.steps]
    for agent, step in sorted(found, key=lambda pair: pair[1].began_at):
        numbers[id(step)] = len(entries)
        planned = agent.plan.root.step(step.step) if agent.plan else None
        entries.append(
            StepEntry(
                agent=step.agent,
                name=step.step,
                place=step.place,
                country=_country(regions, step.place),
                ran_in=step.ran_in,
                dispatch=step.dispatch,
                attempts=step.attempts,
                began_ms=(step.began_at - run.started_at) / timedelta(milliseconds=1),
                wall_ms=step.wall_ms,
                predicted_ms=step.predicted_ms,
                parts=step.parts.by_name() if step.parts else None,
                calls=tuple(map(_call, step.calls)),
                calls_left_out=step.calls_left_out,
                error=step.error,
                why_moved=step.why_moved,
                is_critical=id(step) in critical,
                receipt=receipts.number(agent, planned) if planned else None,
                regret_ms=regret_ms(planned, step) if planned else None,
            )
        )
    chart = chart_of(run, numbers, _details(run, regions))
    return Page(
        heading=_heading(run, regions),
        span_ms=chart.span_ms,
        chart_height=chart.height,
        is_roomy=chart.is_roomy,
        names_turn_at=NAMES_TURN_AT,
        first_step=_first_step(entries),
        lanes=chart.lanes,
        bars=chart.bars,
        segments=chart.segments,
        links=chart.links,
        steps=tuple(entries),
        receipts=tuple(receipts.kept),
        map=map_of(run, topology),
    )


def _first_step(steps: Sequence[StepEntry]) -> int | None:
    """The slowest one of the critical path; else the slowest."""
    return max(
        range(len(steps)),
        key=lambda index: (steps[index].is_critical, steps[index].wall_ms or 0.0),
        default=None,
    )


def _heading(run: RunTrace, regions: Mapping[str, Region]) -> Heading:
    steps = list(run.all_steps())
    slowest = run.slowest
    return Heading(
        agent=run.agent,
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        status=run.status,
        error=run.error,
        cell=run.cell,
        home=run.home,
        home_country=_country(regions, run.home),
        origin=run.origin,
        residency=run.residency,
        started_at=f"{run.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        wall_ms=run.wall_ms,
        predicted_ms=run.predicted_ms,
        orchestration_ms=run.orchestration_ms,
        slowest=f"{slowest.in_words}, {slowest.took_ms:,.0f} ms" if slowest else None,
        steps=len(steps),
        places=len({place for step in steps if (place := step.ran_in or step.place)}),
        waits_for=run.waits_for,
        notes=tuple(f"{agent.agent}: {remark}" for agent in run.all_agents() for remark in agent.notes),
    )


def _details(run: RunTrace, regions: Mapping[str, Region]) -> dict[str, str]:
    """What stands below the name of each lane."""
    found = {name: country_name(region.country) for name, region in regions.items()}
    found[NOWHERE] = "queues of no region"
    if run.home:
        found[run.home] = " · ".join(filter(None, [found.get(run.home), "home"]))
    return found


def _call(call: CallTiming) -> Call:
    return Call(
        name=f"{call.kind} {call.name}",
        operation=call.operation,
        took_ms=call.took_ms,
        connect_ms=call.connect_ms,
        first_token_ms=call.first_token_ms,
        decode_ms=call.decode_ms,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        tokens_per_second=call.tokens_per_second,
        retries=call.retries,
        error=call.error,
    )


class _Receipts:
    """Receipts, each kept once, however often its step was called."""

    def __init__(self, regions: Mapping[str, Region]) -> None:
        self.kept: list[Receipt] = []
        self._numbers: dict[tuple[str, str, str], int] = {}
        self._regions = regions

    def number(self, agent: RunTrace, planned: StepPlan) -> int:
        """Index of the receipt of a planned step."""
        key = agent.workflow_id, agent.run_id, planned.step
        if key not in self._numbers:
            self._numbers[key] = len(self.kept)
            self.kept.append(self._receipt(agent, planned))
        return self._numbers[key]

    def _receipt(self, agent: RunTrace, planned: StepPlan) -> Receipt:
        return Receipt(
            step=planned.step,
            agent=agent.agent,
            home=agent.home or "–",
            residency=agent.residency or "–",
            candidates=tuple(map(self._candidate, planned.candidates)),
            excluded=tuple(
                ExclusionEntry(region=region, rule=exclusion.rule, reason=exclusion.reason)
                for region, exclusion in planned.excluded.items()
            ),
        )

    def _candidate(self, candidate: Candidate) -> CandidateEntry:
        cost = candidate.cost
        return CandidateEntry(
            region=candidate.region,
            country=_country(self._regions, candidate.region),
            dispatch=candidate.dispatch,
            parts={
                "dispatch": cost.dispatch_ms,
                "network": cost.network_ms,
                "transfer": cost.transfer_ms,
                "queue_wait": cost.wait_ms,
                "execution": cost.run_ms,
            },
            predicted_ms=cost.predicted_ms,
        )


def _country(regions: Mapping[str, Region], name: str | None) -> str | None:
    region = regions.get(name) if name else None
    return country_name(region.country) if region else None
