"""What a run that may be restarted in another cell carries: which run it is, and how often it was restarted.

Temporal's run id names one execution in one cell. A run that a lost cell had accepted and that was started
again elsewhere is the same run to its user, so it has a key of its own, made by the client that started it.
It travels in a header, for the run itself, and in the memo, for those who list runs.

A step's idempotency key is made of the run's key, the step and its arguments, not of the step's number: where
an agent calls steps side by side, their numbers depend on which of them ends first, and a restarted run
would give the key of one call to another.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadConverter

LINEAGE_HEADER = "edgeward-lineage"
LINEAGE_MEMO = "edgeward-lineage"

PLAIN = b"json/plain"

DIGEST_CHARACTERS = 20
"""Of the arguments in a key: 80 bits."""


class Lineage(BaseModel):
    """Which run this is, whatever cell it is in."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    """The same for a run and what was started again in its stead. A sub-agent's begins with its run's."""

    restarts: int = 0
    """How many times it was started again: of two with the same key the one with more of them stands."""

    lost_cell: str | None = None
    """The cell that was lost, for which this one was started."""

    continued: int = 0
    """How many times it went on as a new execution (continue-as-new)."""

    @classmethod
    def new(cls) -> Self:
        """That of a run which is about to start for the first time."""
        return cls(key=uuid.uuid4().hex)

    @property
    def root(self) -> str:
        """The key of the run that the user started."""
        return self.key.partition("/")[0]

    def restarted(self, lost_cell: str) -> Lineage:
        """That of the run which is started again because a cell was lost."""
        return self.model_copy(update={"restarts": self.restarts + 1, "lost_cell": lost_cell})

    def went_on(self) -> Lineage:
        """That of the next execution of the same run."""
        return self.model_copy(update={"continued": self.continued + 1})

    def below(self, key: str) -> Lineage:
        """That of a sub-agent."""
        return self.model_copy(update={"key": key, "continued": 0})

    def outlives(self, other: Lineage) -> bool:
        """Whether this run was started again in the stead of the other one, or of its run."""
        return self.root == other.root and self.restarts > other.restarts


class CallKeys:
    """Keys of the calls of one execution: the same where the agent calls the same again.

    Args:
        lineage: Of the run.
        converter: Of the workflow: arguments count as they are written.
    """

    def __init__(self, lineage: Lineage, converter: PayloadConverter) -> None:
        self.lineage = lineage
        self._converter = converter
        went_on = f"/{lineage.continued}" if lineage.continued else ""
        self._prefix = f"{lineage.key}{went_on}"
        self._calls: Counter[str] = Counter()

    def next(self, called: str, arguments: Sequence[Any]) -> str:
        """The key of the next call of a step or sub-agent with these arguments."""
        digest = sha256()
        for payload in self._converter.to_payloads(arguments):
            digest.update(len(payload.data).to_bytes(8))
            digest.update(payload.data)
        key = f"{self._prefix}/{called}/{digest.hexdigest()[:DIGEST_CHARACTERS]}"
        self._calls[key] += 1
        return key if self._calls[key] == 1 else f"{key}/{self._calls[key]}"


def with_lineage(headers: Mapping[str, Payload], lineage: Lineage) -> dict[str, Payload]:
    """These headers and the lineage of a run."""
    text = lineage.model_dump_json(exclude_none=True).encode()
    return {**headers, LINEAGE_HEADER: Payload(metadata={"encoding": PLAIN}, data=text)}


def lineage_of(headers: Mapping[str, Payload]) -> Lineage | None:
    """The lineage in the headers of a run; None if it may not be restarted, or has none that can be read."""
    payload = headers.get(LINEAGE_HEADER)
    if payload is None:
        return None
    try:
        return Lineage.model_validate_json(payload.data)
    except ValidationError:
        return None


def with_memo(memo: Mapping[str, Any] | None, lineage: Lineage) -> dict[str, Any]:
    """This memo and the lineage of a run."""
    return {**(memo or {}), LINEAGE_MEMO: lineage.model_dump(exclude_none=True)}


def lineage_in(memo: Mapping[str, Any]) -> Lineage | None:
    """The lineage in a run's memo; None if it has none that can be read."""
    try:
        return Lineage.model_validate(memo[LINEAGE_MEMO])
    except (KeyError, ValidationError):
        return None
