"""``edgeward plan``: where a run would go, and why."""

from collections.abc import Mapping

import typer

from orchestrator.application import load_application
from orchestrator.cli.distances import coordinates_of, note_estimates, origin_of
from orchestrator.cli.options import (
    AppOption,
    OriginOption,
    Output,
    OutputOption,
    ResidencyOption,
    TopologyOption,
    topology_of,
)
from orchestrator.cli.output import data, table
from orchestrator.dispatch import RunPlanner
from orchestrator.placement import AgentPlan, Exclusion, Plan, StepPlan
from orchestrator.requirements import requirements

DEFAULT_APP = "workflows:app"

app = typer.Typer(help="Plans of runs.", no_args_is_help=True)


@app.callback()
def plans() -> None:
    """Plans of runs."""


@app.command("explain")
def explain(
    agent: str,
    origin: OriginOption,
    residency: ResidencyOption = None,
    application: AppOption = DEFAULT_APP,
    topology: TopologyOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Plan a run without starting it: candidates, costs by part, exclusions with their rules.

    AGENT is an agent of the application. Costs are predicted from the topology's figures. Shown
    are the steps that the agent is expected to call; --output json has the others too.
    """
    known = topology_of(topology)
    loaded = load_application(application)
    name = loaded.agent_name(agent)
    planner = RunPlanner(
        known, agents=loaded.agent_definitions, steps=loaded.step_definitions, rules=loaded.rules
    )
    user = origin_of(origin, coordinates_of(known))
    plan = planner.plan(name, user, narrowed=requirements(residency=residency))
    note_estimates(known, user)
    if output is Output.JSON:
        data(plan)
        return
    _print_run(plan)
    for part in plan.root.walk():
        _print_steps(part)


def _print_run(plan: Plan) -> None:
    print(f"agent      {plan.root.agent}")
    print(f"origin     {plan.origin.label}")
    print(f"residency  {plan.residency}")
    print(f"home       {plan.home} (cell {plan.cell})")
    print(f"predicted  {plan.latency_ms:,.0f} ms, price {plan.price:g}")
    print()
    table(
        "homes",
        ["home", "cell", "start and result ms", "steps ms", "sub-agents ms", "total ms", "price"],
        (
            (
                home.region,
                home.cell,
                home.start_ms,
                home.steps_ms,
                home.handoffs_ms,
                home.latency_ms,
                home.price,
            )
            for home in plan.homes
        ),
    )
    _print_excluded(plan.excluded_homes)


def _print_steps(agent: AgentPlan) -> None:
    for step in agent.steps.values():
        if step.expected_calls:
            print()
            _print_step(agent, step)


def _print_step(agent: AgentPlan, step: StepPlan) -> None:
    table(
        f"{agent.agent}.{step.step} · home {agent.home} · expected {step.expected_calls:g}×",
        [
            "place",
            "dispatch",
            "dispatch ms",
            "network ms",
            "transfer ms",
            "wait ms",
            "run ms",
            "spread ms",
            "total ms",
            "price",
        ],
        (
            (
                candidate.region,
                candidate.dispatch,
                candidate.cost.dispatch_ms,
                candidate.cost.network_ms,
                candidate.cost.transfer_ms,
                candidate.cost.wait_ms,
                candidate.cost.run_ms,
                candidate.cost.spread_ms,
                candidate.cost.latency_ms,
                candidate.cost.price,
            )
            for candidate in step.candidates
        ),
    )
    _print_excluded(step.excluded)


def _print_excluded(excluded: Mapping[str, Exclusion]) -> None:
    for region, exclusion in excluded.items():
        print(f"excluded   {region}: {exclusion.rule} – {exclusion.reason}")
