"""``python -m bench`` lists the benchmarks; ``python -m bench NAME`` runs one."""

import importlib
import pkgutil
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def main(arguments: list[str]) -> int:
    names = sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)]) if module.name[0] != "_")
    names = [name for name in names if hasattr(importlib.import_module(f"bench.{name}"), "main")]
    if not arguments:
        print("make bench BENCH=NAME runs one of:")
        for name in names:
            about = (importlib.import_module(f"bench.{name}").__doc__ or "").partition("\n")[0]
            print(f"  {name:12} {about}")
        return 0
    name, *rest = arguments
    if name not in names:
        print(f"unknown benchmark {name!r}; there are: {', '.join(names)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"bench.{name}").main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
