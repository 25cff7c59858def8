"""Agents that no home can help: what is wrong is said before homes are weighed."""

from collections.abc import Mapping

from orchestrator.errors import PlacementError
from orchestrator.placement.plan import Exclusion
from orchestrator.placement.profile import AgentProfile
from orchestrator.placement.rules import emptied_by, summary
from orchestrator.placement.tables import Node


def refuse_cycles(agent: AgentProfile, above: tuple[str, ...] = ()) -> None:
    """Raises if an agent is below itself.

    Raises:
        PlacementError: It is; the message has the path.
    """
    if agent.name in above:
        path = " → ".join((*above, agent.name))
        raise PlacementError(
            f"agent {agent.name} hands off to itself ({path}); declare the handoff where the loop is bounded",
            step=agent.name,
            rule="handoffs",
        )
    for handoff in agent.handoffs:
        refuse_cycles(handoff.agent, (*above, agent.name))


def refuse_without_any_place(node: Node) -> None:
    """Raises if the rules leave no region at all for a step, whatever the home.

    Raises:
        PlacementError: They do not; names the step and the rule.
    """
    for table in node.tables:
        if table.step.expected_calls == 0 or table.bodies:
            continue
        rule = emptied_by(table.excluded.values())
        raise PlacementError(
            f"step {table.step.name} has no place, because of the rule {rule!r}: {summary(table.excluded)}",
            step=table.step.name,
            rule=rule,
            excluded=as_text(table.excluded),
        )
    for child in node.children:
        if child.calls > 0:
            refuse_without_any_place(child)


def as_text(excluded: Mapping[str, Exclusion]) -> dict[str, str]:
    """``{"us-east": "needs: lacks …"}``, as errors carry it."""
    return {region: f"{exclusion.rule}: {exclusion.reason}" for region, exclusion in excluded.items()}
