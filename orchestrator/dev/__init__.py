"""The embedded stack: several regions on one machine, with real servers, real models and emulated distance.

It needs the extra ``local``. Nothing here is imported by the parts that run in production.
"""

from orchestrator.dev.regions import DEFAULT_REGIONS, PLACES, described_topology
from orchestrator.dev.stack import Stack, StackOptions, view_from
from orchestrator.dev.state import RunningStack, running_stack

__all__ = [
    "DEFAULT_REGIONS",
    "PLACES",
    "RunningStack",
    "Stack",
    "StackOptions",
    "described_topology",
    "running_stack",
    "view_from",
]
