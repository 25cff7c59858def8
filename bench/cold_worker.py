"""A region's worker that does not warm up: the baseline of the cold-start benchmark."""

import asyncio
import sys

from bench.cold_agents import application
from orchestrator import load_topology
from orchestrator.runtime import RegionWorker, event_loop


def main() -> None:
    worker = RegionWorker(load_topology(sys.argv[1]), "here", application, warm_up=False)
    # as the command does, so that nothing but the warm-up differs
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(worker.run())


if __name__ == "__main__":
    main()
