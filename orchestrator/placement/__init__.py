"""The plan: costs, planner and receipt. Pure functions and frozen values."""

from orchestrator.placement.cost import CostModel, StepCost
from orchestrator.placement.known import KnownOr
from orchestrator.placement.network import Network
from orchestrator.placement.plan import AgentPlan, Candidate, Exclusion, HomeCandidate, Plan, StepPlan
from orchestrator.placement.planner import IN_ONE_REQUEST, START_THEN_RESULT, Planner, plan
from orchestrator.placement.profile import (
    AgentProfile,
    Dispatch,
    DispatchChoice,
    Handoff,
    OnCellLoss,
    RunTime,
    StepProfile,
    WithoutPlace,
)
from orchestrator.placement.snapshot import QueueReading, RegionReading, Snapshot

__all__ = [
    "IN_ONE_REQUEST",
    "START_THEN_RESULT",
    "AgentPlan",
    "AgentProfile",
    "Candidate",
    "CostModel",
    "Dispatch",
    "DispatchChoice",
    "Exclusion",
    "Handoff",
    "HomeCandidate",
    "KnownOr",
    "Network",
    "OnCellLoss",
    "Plan",
    "Planner",
    "QueueReading",
    "RegionReading",
    "RunTime",
    "Snapshot",
    "StepCost",
    "StepPlan",
    "StepProfile",
    "WithoutPlace",
    "plan",
]
