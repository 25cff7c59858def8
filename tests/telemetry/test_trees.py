"""Runs as one tree each, as an OTLP collector receives it from several processes."""

import asyncio
import uuid

import pytest

from tests.telemetry.agents import SECRET
from tests.telemetry.collector import Collector, ReceivedSpan, Tree
from tests.telemetry.processes import Traced, command, logged

THINK = "step think"
LOOK = ["step look", "queue wait look", "attempt look"]
PRINT = ["step print_it", "queue wait print_it", "attempt print_it"]
MIXED = [THINK, LOOK, PRINT, THINK]


def name(agent: str) -> str:
    return f"{agent}-{uuid.uuid4().hex[:8]}"


async def tree_of(traced: Traced, *agents: str, spans: int) -> Tree:
    """Of one run, with as many spans as it must have."""
    (agent,) = agents
    run = name(agent)
    await traced.call((agent, run), environment=traced.over_http())
    await traced.collector.until(lambda arrived: arrived.counted(run) >= spans)
    return Tree(traced.collector.of_run(run))


@pytest.mark.parametrize(
    ("agent", "steps"),
    [
        ("Inline", [THINK] * 5),
        ("Mixed", MIXED),
        (
            "Stumbling",
            [
                [
                    "step stumble",
                    "queue wait stumble",
                    "attempt stumble",
                    "queue wait stumble",
                    "attempt stumble",
                ]
            ],
        ),
        ("Falling", [THINK, ["step fall", "queue wait fall", "attempt fall"]]),
        ("Asking", [["step ask", "queue wait ask", ["attempt ask", "execute_tool echo"]]]),
    ],
)
async def test_a_run_is_one_tree(traced: Traced, agent: str, steps: list[object]) -> None:
    expected = [f"invoke_agent {agent}", [f"invoke_workflow {agent}", *steps]]
    tree = await tree_of(traced, agent, spans=len(flat(expected)))
    assert tree.shape() == expected


def flat(shape: object) -> list[str]:
    return [name for part in shape for name in flat(part)] if isinstance(shape, list) else [str(shape)]


def in_any_order(shape: object) -> object:
    return sorted(map(in_any_order, shape), key=str) if isinstance(shape, list) else shape


async def test_sub_agents_hang_below_the_run_that_called_them(traced: Traced) -> None:
    below = ["invoke_agent Mixed", *MIXED]
    expected = ["invoke_agent Pair", ["invoke_workflow Pair", below, below, THINK]]
    tree = await tree_of(traced, "Pair", spans=len(flat(expected)))
    # what runs side by side waits for the processor, too: no order is promised
    assert in_any_order(tree.shape()) == in_any_order(expected)
    first, second = tree.all("invoke_agent Mixed")
    assert second.start_ns < first.end_ns


async def test_spans_say_where_and_why(traced: Traced) -> None:
    tree = await tree_of(traced, "Mixed", spans=10)
    client, run = tree.one("invoke_agent Mixed"), tree.one("invoke_workflow Mixed")
    assert client.resource["service.name"] == "edgeward-client"
    assert client.attributes["edgeward.home"] == "frankfurt"
    assert client.attributes["edgeward.predicted_ms"] > 0
    assert run.attributes["gen_ai.agent.name"] == run.attributes["gen_ai.workflow.name"] == "Mixed"
    assert (run.resource["service.name"], run.resource["cloud.region"]) == ("edgeward-worker", "frankfurt")
    assert run.resource["service.instance.id"]
    assert run.resource["host.id"]
    step, attempt = tree.one("step print_it"), tree.one("attempt print_it")
    assert step.attributes["edgeward.home"] == "frankfurt"
    assert step.attributes["edgeward.candidates"] == 1
    assert step.attributes["edgeward.excluded"] == ["frankfurt"]
    for span in (step, attempt):
        assert (span.attributes["edgeward.place"], span.attributes["edgeward.dispatch"]) == (
            "dublin",
            "queue",
        )
        assert span.attributes["edgeward.step.sequence"] == 3
        assert span.attributes["edgeward.predicted_ms"] > 0
    assert attempt.resource["cloud.region"] == "dublin"
    assert attempt.attributes["edgeward.attempt"] == 1
    wait = tree.one("queue wait print_it")
    assert wait.attributes["edgeward.queue_wait_ms"] == pytest.approx(
        (wait.end_ns - wait.start_ns) / 1e6, abs=0.01
    )
    for span in tree.spans:
        above = next((other for other in tree.spans if other.span_id == span.parent_id), None)
        assert span.start_ns <= span.end_ns
        assert above is None or (above.start_ns <= span.start_ns and span.end_ns <= above.end_ns), span.name
    thought = tree.all(THINK)[0]
    assert (thought.attributes["edgeward.place"], thought.attributes["edgeward.dispatch"]) == (
        "frankfurt",
        "inline",
    )


async def test_failed_attempts_and_runs_say_by_what(traced: Traced) -> None:
    tree = await tree_of(traced, "Stumbling", spans=7)
    first, second = tree.all("attempt stumble")
    assert [span.attributes["edgeward.attempt"] for span in (first, second)] == [1, 2]
    assert (first.failed, second.failed) == (True, False)
    assert first.attributes["error.type"] == "RuntimeError"
    failed = await tree_of(traced, "Falling", spans=6)
    for span in ("invoke_workflow Falling", "step fall", "attempt fall"):
        assert failed.one(span).attributes["error.type"] == "RuntimeError"
        assert failed.one(span).failed
    assert not failed.one(THINK).failed


async def test_the_trace_goes_on_to_the_endpoint(traced: Traced) -> None:
    before = len(traced.echo.requests)
    tree = await tree_of(traced, "Asking", spans=6)
    call = tree.one("execute_tool echo")
    sent = {request.headers.get("traceparent") for request in traced.echo.requests[before:]}
    assert f"00-{call.trace_id}-{call.span_id}-01" in sent


async def test_runs_that_are_let_go_and_replayed_emit_nothing_twice(traced: Traced) -> None:
    """Frankfurt's worker keeps one run in memory, so these drive each other out."""
    runs = [name("Mixed") for _ in range(4)]
    await traced.call(*(("Mixed", run) for run in runs), environment=traced.over_http())
    await traced.collector.until(lambda arrived: all(whole(arrived.of_run(run)) for run in runs))
    for run in runs:
        tree = Tree(traced.collector.of_run(run))
        # a run that is let go while an inline step runs makes it run again: those are no replays, and say so
        once = [span for span in tree.spans if not span.attributes.get("edgeward.repeated")]
        thoughts = [span.attributes["edgeward.step.sequence"] for span in once if span.name == THINK]
        assert sorted(thoughts) == [1, 4]
        for span in ("invoke_agent Mixed", "invoke_workflow Mixed", "attempt look", "attempt print_it"):
            tree.one(span)


def whole(spans: list[ReceivedSpan]) -> bool:
    """Everything has ended, and whatever is named as a parent is here."""
    names = {span.name for span in spans}
    known = {span.span_id for span in spans}
    return {
        "invoke_agent Mixed",
        "invoke_workflow Mixed",
        "attempt print_it",
        "attempt look",
    } <= names and all(not span.parent_id or span.parent_id in known for span in spans)


async def test_a_run_that_goes_on_as_new_is_linked(traced: Traced) -> None:
    run = name("Chain")
    await traced.call(("Chain", run), text="2", environment=traced.over_http())
    await traced.collector.until(lambda arrived: arrived.counted(run) >= 7)
    tree = Tree(traced.collector.of_run(run))
    links = tree.all("invoke_workflow Chain")
    assert tree.shape() == ["invoke_agent Chain", *[["invoke_workflow Chain", THINK]] * 3]
    assert [span.links for span in links] == [(), (links[0].span_id,), (links[1].span_id,)]


async def test_a_killed_home_loses_nothing_that_it_had_told(traced: Traced, tmp_path) -> None:
    file, run = tmp_path / "go-on", name("Long")
    calling = asyncio.create_task(traced.call(("Long", run), text=str(file), environment=traced.over_http()))

    def first_step_told(arrived: Collector) -> bool:
        return {"step look", "attempt look"} <= {
            span.name for span in arrived.spans if span.attributes.get("edgeward.run.id") == run
        }

    await traced.collector.until(first_step_told)
    async with asyncio.timeout(60):
        while not file.with_name(f"{file.name}.began").exists():
            await asyncio.sleep(0.02)
    traced.processes["frankfurt"].kill()
    await traced.processes["frankfurt"].wait()
    await traced.start("frankfurt", traced.over_http(), "--cached-runs", "1")
    file.touch()
    await calling
    await traced.collector.until(lambda arrived: arrived.counted(run) >= 12)
    tree = Tree(traced.collector.of_run(run))
    waiting = ["step wait_for", "queue wait wait_for", "attempt wait_for"]
    assert tree.shape() == ["invoke_agent Long", ["invoke_workflow Long", LOOK, waiting, LOOK, THINK]]
    emitters = [span.resource["service.instance.id"] for span in tree.all("step look")]
    assert len(set(emitters)) == 2
    assert tree.one("invoke_workflow Long").resource["service.instance.id"] == emitters[1]


async def test_a_caller_without_a_trace_has_a_tree_from_the_run_on(traced: Traced) -> None:
    run = name("Mixed")
    await traced.call(("Mixed", run), environment={})
    await traced.collector.until(lambda arrived: arrived.counted(run) >= 9)
    assert Tree(traced.collector.of_run(run)).shape() == ["invoke_workflow Mixed", *MIXED]


async def test_what_the_caller_does_not_sample_is_not_sent(traced: Traced) -> None:
    unheard, heard = name("Mixed"), name("Mixed")
    await traced.call(("Mixed", unheard), environment=traced.over_http(OTEL_TRACES_SAMPLER="always_off"))
    await traced.call(("Mixed", heard), environment=traced.over_http())
    await traced.collector.until(lambda arrived: arrived.counted(heard) >= 10)
    assert traced.collector.of_run(unheard) == []


async def test_the_command_line_tells_its_span_before_it_ends(traced: Traced) -> None:
    before = len(traced.collector.spans)
    await command(
        *("-m", "orchestrator.cli", "run", "Inline", "--origin", "frankfurt", "--input", "x"),
        *("--topology", str(traced.topology), "--app", "tests.telemetry.agents:application"),
        *("--output", "json"),
        environment=traced.over_grpc(),
    )
    assert "invoke_agent Inline" in {span.name for span in traced.collector.spans[before:]}


async def test_lines_of_the_log_carry_run_step_place_and_trace(traced: Traced) -> None:
    tree = await tree_of(traced, "Mixed", spans=10)
    attempt = tree.one("attempt look")
    run = attempt.attributes["edgeward.run.id"]
    async with asyncio.timeout(30):
        while not (lines := [line for line in logged(traced.log) if line.get("run") == run]):
            await asyncio.sleep(0.05)
    (line,) = lines
    assert (line["event"], line["step"], line["place"]) == ("looked", "look", "frankfurt")
    assert (line["trace_id"], line["span_id"]) == (attempt.trace_id, attempt.span_id)


async def test_metrics_arrive_with_few_attributes(traced: Traced) -> None:
    names = {
        "edgeward.step.duration",
        "edgeward.step.part.duration",
        "edgeward.step.prediction.error",
        "edgeward.placements",
        "edgeward.steps.in_flight",
        "gen_ai.execute_tool.duration",
    }
    await tree_of(traced, "Asking", spans=6)
    await traced.collector.until(lambda arrived: names <= set(arrived.metrics))
    parts = {
        point["attributes"]["edgeward.step.part"]
        for point in traced.collector.metrics["edgeward.step.part.duration"]
    }
    assert parts == {"queue wait", "delivery", "execution"}
    said = {
        key for points in traced.collector.metrics.values() for point in points for key in point["attributes"]
    }
    assert not {"edgeward.run.id", "temporalRunID", "edgeward.step.sequence"} & said


async def test_no_contents_are_told(traced: Traced) -> None:
    for agent in ("Mixed", "Stumbling", "Falling", "Asking"):
        run = name(agent)
        await traced.call((agent, run), text=SECRET, environment=traced.over_http())
        await traced.collector.until(
            lambda arrived, run=run: any(
                span.name.startswith("invoke_workflow") for span in arrived.of_run(run)
            )
        )
    assert traced.collector.protocols == {"http", "grpc"}
    assert not any(SECRET.encode() in message for message in traced.collector.raw)
