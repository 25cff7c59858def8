"""The agents that ship: examples to copy, and what ``edgeward demo`` runs."""

from temporalio import workflow

# Loaded once: the sandbox would otherwise load every agent again for each run of one of them.
with workflow.unsafe.imports_passed_through():
    from workflows.application import app

__all__ = ["app"]
