"""What tests of traces ask of every run."""

from orchestrator import EdgeClient
from orchestrator.trace import RunTrace, read_run


async def trace_of(client: EdgeClient, workflow_id: str) -> RunTrace:
    return await read_run(client.cell("traced"), workflow_id)


def assert_adds_up(run: RunTrace) -> None:
    steps = list(run.all_steps())
    assert steps
    for step in steps:
        assert step.parts is not None
        assert step.wall_ms is not None
        assert all(part_ms >= 0 for part_ms in step.parts.by_name().values()), step
        assert abs(step.parts.sum_ms - step.wall_ms) <= max(5.0, 0.02 * step.wall_ms), step
