"""Time to the first token at the caller: through a run of Edgeward, and from the model's server directly.

One region with a Temporal server, a small model and a server that answers at once (*instant*); callers are
0, 20 and 80 ms away, behind delay proxies. *Start* opens the stream once the cell has the run, *submit* at
the same time; the step is queued unless it says inline. The instant server writes times as its tokens, so
that the way to it and the way back are told apart. What the way to it costs without Edgeward is told by
plain temporalio with the same call, whose caller hears nothing before the run has ended. The ways take turns.
"""

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

from bench.report import at_most, percentile, summary, write
from bench.tokens_agents import MODELS
from bench.tokens_server import TOKENS
from bench.tokens_stream import Heard
from bench.tokens_ways import PLAIN, PLAIN_INLINE, PLAIN_QUEUED, Ask, caller, place

RTTS_MS = (0, 20, 80)
"""Between the user and the place."""

ALLOWED_MS = 3.0
"""Goal: beside one more round trip."""

OVER_TEMPORALIO = 1.05
"""Goal: the way to the model over that of plain temporalio, which has to start a run as well."""

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
        there_ms, sent = _there(heard)
        if len(heard.arrivals) != TOKENS:
            raise RuntimeError(f"{len(heard.arrivals)} pieces instead of {TOKENS}")
        return cls(
            there_ms=there_ms,
            back_ms=[(got - left) / 1e6 for got, left in zip(heard.arrivals, sent, strict=True)],
        )


def _there(heard: Heard) -> tuple[float, list[int]]:
    """How long the request was on its way, in milliseconds, and when each token was sent."""
    arrived, *sent = map(int, heard.text.split())
    if len(sent) != TOKENS:
        raise RuntimeError(f"{len(sent)} tokens instead of {TOKENS}")
    return (arrived - heard.asked) / 1e6, sent


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
        row: dict[str, Any] = {"model": model, "rtt_ms": rtt_ms, "way": way}
        if way in PLAIN:
            there_ms = [_there(answer)[0] for answer in answers]
            row |= {"to_the_model_p50_ms": round(percentile(there_ms, 50), 2), "to_the_model_n": len(answers)}
        else:
            row |= _first_and_gaps(answers, heard[model, rtt_ms, "direct"])
            row |= _on_the_way(answers, rtt_ms) if model == "instant" else {}
        found.append(row)
    return found


def _first_and_gaps(answers: list[Heard], direct: list[Heard]) -> dict[str, float]:
    first = [answer.first_ms for answer in answers]
    gaps = [gap for answer in answers for gap in answer.gaps_ms]
    over_direct_ms = percentile(first, 50) - percentile([answer.first_ms for answer in direct], 50)
    return {
        **{f"first_token_{name}": value for name, value in summary(first).items()},
        "over_direct_p50_ms": round(over_direct_ms, 2),
        **{f"gap_{name}": value for name, value in summary(gaps).items() if name != "n"},
    }


def _on_the_way(answers: list[Heard], rtt_ms: float) -> dict[str, float]:
    parts = [OnTheWay.of(answer) for answer in answers]
    back = [back_ms - rtt_ms / 2 for part in parts for back_ms in part.back_ms]
    return {
        "to_the_model_p50_ms": round(percentile([part.there_ms for part in parts], 50), 2),
        "token_back_over_half_rtt_p50_ms": round(percentile(back, 50), 2),
        "token_back_over_half_rtt_p99_ms": round(percentile(back, 99), 2),
    }


def goals(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [
        at_most(
            f"first token, {row['model']}, {row['rtt_ms']} ms away: {row['way']} - direct, p50, ms",
            row["over_direct_p50_ms"],
            row["rtt_ms"] + ALLOWED_MS,
        )
        for row in results
        if row["way"] in {"start", "submit"}
    ]
    to_the_model = {
        (row["rtt_ms"], row["way"]): row["to_the_model_p50_ms"]
        for row in results
        if row["model"] == "instant"
    }
    for ours, theirs in (("submit", PLAIN_QUEUED), ("submit, inline step", PLAIN_INLINE)):
        if (0, ours) in to_the_model:
            ours_ms, theirs_ms = to_the_model[0, ours], to_the_model[0, theirs]
            name = (
                f"to the model, 0 ms away: {ours} over {theirs} ({ours_ms:.1f} and {theirs_ms:.1f} ms), p50"
            )
            found.append(at_most(name, ours_ms / theirs_ms, OVER_TEMPORALIO))
    return found


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
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=tokens", description=(__doc__ or "").split("\n")[0]
    )
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
