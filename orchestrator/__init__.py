"""Edgeward: runs each step of an agent in the region that serves the user best, on Temporal."""

from orchestrator.agents import agent, step
from orchestrator.application import Application
from orchestrator.budgets import Budget
from orchestrator.calls import call, handoff, placing
from orchestrator.client import EdgeClient, EdgeRun
from orchestrator.context import current_step, emit
from orchestrator.dispatch import EdgewardPlugin
from orchestrator.requirements import Needs, Objective, Residency
from orchestrator.topology import Topology, load_topology

__all__ = [
    "Application",
    "Budget",
    "EdgeClient",
    "EdgeRun",
    "EdgewardPlugin",
    "Needs",
    "Objective",
    "Residency",
    "Topology",
    "agent",
    "call",
    "current_step",
    "emit",
    "handoff",
    "load_topology",
    "placing",
    "step",
]
