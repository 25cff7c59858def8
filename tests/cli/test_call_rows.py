"""How the calls of a step read below it."""

from datetime import UTC, datetime, timedelta

from orchestrator.cli.call_rows import call_rows, parts_of
from orchestrator.timing import CallTiming
from orchestrator.trace import StepTrace

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def call(**more: object) -> CallTiming:
    return CallTiming.model_validate({"kind": "model", "name": "chat", "took_ms": 250.0, **more})


def step(*calls: CallTiming, left_out: int = 0) -> StepTrace:
    return StepTrace(
        agent="guide",
        step="say",
        sequence=1,
        activity_id="1",
        place="eu-central",
        ran_in="eu-central",
        dispatch="queue",
        attempts=1,
        began_at=BEGAN,
        ended_at=BEGAN + timedelta(seconds=1),
        predicted_ms=None,
        parts=None,
        calls=calls,
        calls_left_out=left_out,
    )


def test_a_streamed_answer_has_all_its_parts() -> None:
    streamed = call(connect_ms=1.25, first_token_ms=50.0, input_tokens=1234, output_tokens=21)
    assert (
        parts_of(streamed)
        == "connect 1.2 ms · first token 50 ms · decode 200 ms · 1234 → 21 tokens · 100 tokens/s"
    )


def test_what_is_not_known_is_not_said() -> None:
    assert parts_of(call()) == ""
    assert parts_of(call(input_tokens=7)) == "7 tokens"
    assert parts_of(call(first_token_ms=50.0, error="StreamInterruptedError")) == "first token 50 ms"
    assert "tokens/s" not in parts_of(call(first_token_ms=250.0, output_tokens=5)), "it came all at once"


def test_a_failed_call_says_with_what_and_how_often_it_was_sent() -> None:
    (row,) = call_rows(step(call(operation="chat", retries=1, error="BackendFaultError")))
    assert row[1] == "  model chat ✗ BackendFaultError"
    assert row[3:5] == ("chat", 2)


def test_calls_that_were_left_out_are_counted() -> None:
    *_, last = call_rows(step(call(), left_out=9))
    assert last[1] == "  and 9 shorter calls"
    assert len({len(row) for row in call_rows(step(call(), left_out=9))}) == 1
