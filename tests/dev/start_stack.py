"""Starts a stack without workers, as a command would, and stays up. Run by the tests of the stack.

Usage: ``python -m tests.dev.start_stack FOLDER [DOCUMENT...]``
"""

import asyncio
import sys
from pathlib import Path

from orchestrator.dev.stack import Stack, StackOptions


async def main() -> None:
    folder, *documents = map(Path, sys.argv[1:])
    options = StackOptions(
        regions=("eu-central",), directory=folder, docs=tuple(documents), ui=False, model_threads=1
    )
    async with Stack(options, progress=lambda line: print(line, flush=True)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(130)
