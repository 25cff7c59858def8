"""A region's worker with another sticky timeout, which begins when a file is there.

Its arguments: topology, region, sticky timeout in seconds, address of its control endpoint, the file.
"""

import asyncio
import sys
import time
from datetime import timedelta
from pathlib import Path

from bench.tuning_agents import application
from orchestrator import load_topology
from orchestrator.runtime import RegionWorker, cell_service, event_loop


def main() -> None:
    topology, region, sticky_s, listen, begin = sys.argv[1:]
    cell_service.STICKY_TIMEOUT = timedelta(seconds=float(sticky_s))
    worker = RegionWorker(load_topology(topology), region, application, listen=listen)
    print("loaded", flush=True)
    while not Path(begin).exists():
        time.sleep(0.005)
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(worker.run())


if __name__ == "__main__":
    main()
