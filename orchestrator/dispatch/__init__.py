"""Carries plans out on Temporal: the plugin and its client, workflow and activity interceptors."""

from orchestrator.dispatch.activity_interceptor import HEARTBEAT_THROTTLE
from orchestrator.dispatch.answer import ANSWER_UPDATE, ELSEWHERE
from orchestrator.dispatch.cells import connect_cell
from orchestrator.dispatch.client_interceptor import starting
from orchestrator.dispatch.deployments import (
    DEFAULT_DEPLOYMENT,
    Build,
    BuildStatus,
    builds_of,
    deployment_name,
    set_current,
)
from orchestrator.dispatch.early import early_answers
from orchestrator.dispatch.headers import (
    Assignment,
    EarlierPlace,
    RunLimits,
    assignment_of,
    limits_of,
    plan_of,
)
from orchestrator.dispatch.lineage import Lineage
from orchestrator.dispatch.payloads.sizes import LIMIT_BYTES, passes_raw_values
from orchestrator.dispatch.plugin import EdgewardPlugin
from orchestrator.dispatch.reconciliation import Reconciliation, Superseded, end_original, reconcile
from orchestrator.dispatch.run_planner import RECEIPT_LIMIT, RunPlanner
from orchestrator.dispatch.site import Publish, Site
from orchestrator.dispatch.steps.hedging import HEDGE_ACTIVITY, HedgeQuestions
from orchestrator.dispatch.workflow_interceptor import TASK_TIMEOUT

__all__ = [
    "ANSWER_UPDATE",
    "DEFAULT_DEPLOYMENT",
    "ELSEWHERE",
    "HEARTBEAT_THROTTLE",
    "HEDGE_ACTIVITY",
    "LIMIT_BYTES",
    "RECEIPT_LIMIT",
    "TASK_TIMEOUT",
    "Assignment",
    "Build",
    "BuildStatus",
    "EarlierPlace",
    "EdgewardPlugin",
    "HedgeQuestions",
    "Lineage",
    "Publish",
    "Reconciliation",
    "RunLimits",
    "RunPlanner",
    "Site",
    "Superseded",
    "assignment_of",
    "builds_of",
    "connect_cell",
    "deployment_name",
    "early_answers",
    "end_original",
    "limits_of",
    "passes_raw_values",
    "plan_of",
    "reconcile",
    "set_current",
    "starting",
]
