"""Pieces of text that steps send to the user while a run goes on, and how they travel."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

QUIET = timedelta(seconds=10)
"""After so long without a piece, a stream says with an empty line that it lives."""


class UnreadablePieceWarning(UserWarning):
    """A place sent something that is no piece of text; the stream goes on without it."""


def _encodable(text: object) -> object:
    # half of a surrogate pair is no text; a preview does not fail its step for that
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else text


class StreamPiece(BaseModel):
    """One piece of text, with where it comes from.

    Pieces are a preview. An attempt that is repeated sends its pieces again, with a higher
    ``attempt``; the run's result is what counts.
    """

    model_config = ConfigDict(frozen=True)

    text: Annotated[str, BeforeValidator(_encodable)]
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


class Transcript:
    """What a run said, put together from its pieces: of each step what its latest attempt said.

    Example:
        >>> transcript = Transcript()
        >>> async for piece in run.stream():
        ...     transcript.add(piece)
        ...     show(transcript.text)
    """

    def __init__(self) -> None:
        self._said: dict[tuple[str, int, str], tuple[int, list[str]]] = {}

    def add(self, piece: StreamPiece) -> bool:
        """Takes a piece as it comes.

        Returns:
            Whether it counts: False for one that an earlier attempt of its step still sends.
        """
        step = (piece.workflow_id, piece.sequence, piece.step)
        attempt, texts = self._said.get(step, (piece.attempt, []))
        if piece.attempt < attempt:
            return False
        if piece.attempt > attempt:
            texts = []
        texts.append(piece.text)
        self._said[step] = (piece.attempt, texts)
        return True

    @property
    def text(self) -> str:
        """All of it, steps in the order in which they first said something."""
        return "".join(text for _, texts in self._said.values() for text in texts)
