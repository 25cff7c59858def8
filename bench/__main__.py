"""``python -m bench`` lists the benchmarks; ``python -m bench NAME`` runs one."""

import importlib
import sys

from bench.performance import benchmarks


def main(arguments: list[str]) -> int:
    benches = {bench.name: bench for bench in benchmarks()}
    if not arguments:
        print("make bench BENCH=NAME runs one of:")
        for bench in benches.values():
            print(f"  {bench.name:12} {bench.about}")
        return 0
    name, *rest = arguments
    if name not in benches:
        print(f"unknown benchmark {name!r}; there are: {', '.join(benches)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"bench.{name}").main(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
