"""A chain of no-op steps that only one other region can do, as an Edgeward agent and as a plain workflow."""

from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, Needs, agent, call, step

RTTS_MS = (0, 40, 120)
"""From the home's cell to the regions that do the steps."""


@step(needs=Needs(tool="at-0"))
async def at_0(number: int) -> int:
    return number + 1


@step(needs=Needs(tool="at-40"))
async def at_40(number: int) -> int:
    return number + 1


@step(needs=Needs(tool="at-120"))
async def at_120(number: int) -> int:
    return number + 1


STEPS = {0: at_0, 40: at_40, 120: at_120}


@agent(steps={}, sandboxed=False)
class Elsewhere:
    """Given steps and distance: counts to the first, each number in the region that is so far away."""

    @workflow.run
    async def run(self, job: tuple[int, int]) -> int:
        steps, rtt_ms = job
        number = 0
        for _ in range(steps):
            number = await call(STEPS[rtt_ms], number)
        return number


@activity.defn
async def plain_at(number: int) -> int:
    return number + 1


def plain_queue(rtt_ms: int) -> str:
    """The queue whose worker is so far away."""
    return f"plain.steps.{rtt_ms}"


@workflow.defn(sandboxed=False)
class PlainElsewhere:
    @workflow.run
    async def run(self, job: tuple[int, int]) -> int:
        steps, rtt_ms = job
        number = 0
        for _ in range(steps):
            number = await workflow.execute_activity(
                plain_at, number, task_queue=plain_queue(rtt_ms), start_to_close_timeout=timedelta(seconds=30)
            )
        return number


application = Application(agents=[Elsewhere], steps=list(STEPS.values()))
