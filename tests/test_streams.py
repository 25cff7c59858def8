from orchestrator.streams import StreamPiece, Transcript


def piece(text: str, *, sequence: int = 1, attempt: int = 1, workflow_id: str = "w") -> StreamPiece:
    return StreamPiece(
        text=text, step="answer", sequence=sequence, attempt=attempt, place="eu", workflow_id=workflow_id
    )


def test_a_transcript_keeps_of_each_step_its_latest_attempt() -> None:
    transcript = Transcript()
    counted = [
        transcript.add(said)
        for said in (
            piece("Hel"),
            piece("two ", sequence=2),
            piece("Hello ", attempt=2),
            piece("late", attempt=1),
            piece("sub ", workflow_id="w/sub"),
            piece("you ", attempt=2),
            piece("more", sequence=2),
        )
    ]
    assert counted == [True, True, True, False, True, True, True]
    assert transcript.text == "Hello you two moresub "


def test_a_transcript_of_nothing_is_empty() -> None:
    assert Transcript().text == ""


def test_half_a_surrogate_pair_does_not_fail_the_step_that_emits_it() -> None:
    assert piece("a\ud800b").text == "a?b"
    assert StreamPiece.model_validate_json(piece("🎉").model_dump_json()).text == "🎉"
