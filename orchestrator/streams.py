"""Pieces of text that steps send to the user while a run goes on, and how they travel."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

QUIET = timedelta(seconds=10)
"""After so long without a piece, a stream says with an empty line that it lives."""


class UnreadablePieceWarning(UserWarning):
    """A place sent something that is no piece of text; the stream goes on without it."""


class StreamPiece(BaseModel):
    """One piece of text, with where it comes from.

    Pieces are a preview. An attempt that is repeated sends its pieces again, with a higher
    ``attempt``; the run's result is what counts.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    step: str
    sequence: int
    """Of the step in its run."""

    attempt: int
    place: str
    workflow_id: str
    """Of the agent whose step it is: the run's own, or a sub-agent's."""


class NumberedPiece(BaseModel):
    """A piece with its number. Numbers of a run and place rise, from any on and with gaps.

    One line of JSON each, at ``GET <control>/runs/<workflow id>/pieces?after=N&follow=true``:
    a listener that lost its connection asks again for what comes after the last number it has,
    of whichever process of the region. Empty lines only say that the stream lives.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    piece: StreamPiece
