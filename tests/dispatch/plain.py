"""An ordinary Temporal application that knows nothing of Edgeward."""

from datetime import timedelta

from temporalio import activity, workflow


@activity.defn
async def shout(word: str) -> str:
    return word.upper()


@workflow.defn
class Plain:
    @workflow.run
    async def run(self, word: str) -> str:
        return await workflow.execute_activity(shout, word, start_to_close_timeout=timedelta(seconds=10))
