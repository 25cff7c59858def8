"""Carries plans out on Temporal: the plugin and its client, workflow and activity interceptors."""

from orchestrator.dispatch.answer import ANSWER_UPDATE, ELSEWHERE
from orchestrator.dispatch.cells import connect_cell
from orchestrator.dispatch.client_interceptor import starting
from orchestrator.dispatch.early import early_answers
from orchestrator.dispatch.headers import Assignment, assignment_of, plan_of
from orchestrator.dispatch.payloads import LIMIT_BYTES, passes_raw_values
from orchestrator.dispatch.plugin import EdgewardPlugin
from orchestrator.dispatch.run_planner import RECEIPT_LIMIT, RunPlanner
from orchestrator.dispatch.site import Publish, Site

__all__ = [
    "ANSWER_UPDATE",
    "ELSEWHERE",
    "LIMIT_BYTES",
    "RECEIPT_LIMIT",
    "Assignment",
    "EdgewardPlugin",
    "Publish",
    "RunPlanner",
    "Site",
    "assignment_of",
    "connect_cell",
    "early_answers",
    "passes_raw_values",
    "plan_of",
    "starting",
]
