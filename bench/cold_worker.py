"""A region's worker that does not warm up: the baseline of the cold-start benchmark."""

import asyncio
import sys

from bench.cold_agents import application
from orchestrator import load_topology
from orchestrator.runtime import RegionWorker

if __name__ == "__main__":
    asyncio.run(RegionWorker(load_topology(sys.argv[1]), "here", application, warm_up=False).run())
