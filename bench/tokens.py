"""Time to the first token at the caller: through a run of Edgeward, and from the model's server directly."""

import argparse
import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import percentile, summary, write
from bench.tokens_agents import MODELS
from bench.tokens_server import TOKENS
from bench.tokens_ways import Ask, Heard, caller, place

RTTS_MS = (0, 20, 80)
"""Between the user and the place."""

ALLOWED_MS = 3.0
"""Goal: beside one more round trip."""

WARM_UP = 2

Key = tuple[str, float, str]
"""Model, round trip time, way."""


@dataclass(frozen=True)
class OnTheWay:
    """Where the time went, by what the instant server writes."""

    there_ms: float
    """From asking to the request's arrival at the server."""

    back_ms: list[float]
    """Of each token, from the server to the caller."""

    @classmethod
    def of(cls, heard: Heard) -> "OnTheWay":
        arrived, *sent = map(int, heard.text.split())
        if len(sent) != TOKENS or len(heard.arrivals) != TOKENS:
            raise RuntimeError(f"{len(heard.arrivals)} pieces and {len(sent)} tokens instead of {TOKENS}")
        return cls(
            there_ms=(arrived - heard.asked) / 1e6,
            back_ms=[(got - left) / 1e6 for got, left in zip(heard.arrivals, sent, strict=True)],
        )


async def measure(rounds: int, models: Collection[str]) -> dict[Key, list[Heard]]:
    heard: dict[Key, list[Heard]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as resources:
            here = await resources.enter_async_context(place(Path(folder)))
            users = {rtt: await resources.enter_async_context(caller(here, rtt)) for rtt in RTTS_MS}
            for number in range(rounds + WARM_UP):
                started = time.monotonic()
                for rtt_ms, ways in users.items():
                    for model in models:
                        for way, answered in (await _round(ways[model], number)).items():
                            if number >= WARM_UP:
                                heard[model, rtt_ms, way].append(answered)
                print(f"round {number + 1 - WARM_UP} in {time.monotonic() - started:.1f} s", flush=True)
    return heard


async def _round(ways: dict[str, Ask], number: int) -> dict[str, Heard]:
    """One question for each way in turn. Each question begins in its own way: no prompt is cached."""
    answers: dict[str, Heard] = {}
    names = list(ways)
    turn = number % len(names)
    for name in names[turn:] + names[:turn]:
        label = f"{time.time_ns() % 10**9:09d}"
        answers[name] = await ways[name](f"{label}: Say hello to the people of this town, in one sentence.")
    return answers


def rows(heard: dict[Key, list[Heard]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for (model, rtt_ms, way), answers in sorted(heard.items()):
        first = [answer.first_ms for answer in answers]
        direct = [answer.first_ms for answer in heard[model, rtt_ms, "direct"]]
        gaps = [gap for answer in answers for gap in answer.gaps_ms]
        row: dict[str, Any] = {"model": model, "rtt_ms": rtt_ms, "way": way}
        row |= {f"first_token_{name}": value for name, value in summary(first).items()}
        row["over_direct_p50_ms"] = round(percentile(first, 50) - percentile(direct, 50), 2)
        row |= {f"gap_{name}": value for name, value in summary(gaps).items() if name != "n"}
        if model == "instant":
            parts = [OnTheWay.of(answer) for answer in answers]
            back = [back_ms - rtt_ms / 2 for part in parts for back_ms in part.back_ms]
            row["to_the_model_p50_ms"] = round(percentile([part.there_ms for part in parts], 50), 2)
            row["token_back_over_half_rtt_p50_ms"] = round(percentile(back, 50), 2)
            row["token_back_over_half_rtt_p99_ms"] = round(percentile(back, 99), 2)
        found.append(row)
    return found


def goals(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"first token, {row['model']}, {row['rtt_ms']} ms away: {row['way']} - direct, p50, ms",
            "value": row["over_direct_p50_ms"],
            "bound": row["rtt_ms"] + ALLOWED_MS,
            "holds": row["over_direct_p50_ms"] <= row["rtt_ms"] + ALLOWED_MS,
        }
        for row in results
        if row["way"] in {"start", "submit"}
    ]


COLUMNS = {
    "model": "model",
    "rtt_ms": "RTT",
    "way": "way",
    "first_token_p50_ms": "first p50",
    "first_token_p95_ms": "p95",
    "over_direct_p50_ms": "over direct",
    "to_the_model_p50_ms": "to model",
    "token_back_over_half_rtt_p50_ms": "back-RTT/2 p50",
    "token_back_over_half_rtt_p99_ms": "p99",
    "gap_p50_ms": "gap p50",
    "gap_p99_ms": "gap p99",
    "first_token_n": "n",
}


def table(results: list[dict[str, Any]]) -> str:
    lines = [list(COLUMNS.values())]
    for row in results:
        cells = (row.get(column, "") for column in COLUMNS)
        lines.append([f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make bench BENCH=tokens", description=__doc__)
    quick = os.environ.get("QUICK") == "1"
    parser.add_argument("--rounds", type=int, default=3 if quick else 40, help="answers of each way")
    parser.add_argument(
        "--models", nargs="*", default=list(MODELS), choices=list(MODELS), help="which to ask"
    )
    options = parser.parse_args(arguments)
    results = rows(asyncio.run(measure(options.rounds, options.models)))
    print(table(results))
    held = goals(results)
    for goal in held:
        print(
            f"{'holds ' if goal['holds'] else 'missed'}  {goal['name']}: {goal['value']} <= {goal['bound']}"
        )
    print(f"written to {write('tokens', results, held)}")
    return 0 if all(goal["holds"] for goal in held) else 1
