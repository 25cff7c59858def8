"""Plain functions over texts that several steps share. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

LONGEST_SENTENCE = 400
"""Characters. A table or a code block is one sentence as far as punctuation goes."""

_ENDS = re.compile(r"(?<=[.!?])[\"”“»)]?\s+(?=[^\W_a-zà-ÿ]|[\"„“«(])|\n\s*\n|\n(?=[-*|] )")
_CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_MARKS = re.compile(r"^[-*] |\*\*|`|(?<!\S)\|+(?!\S)|\|[-|: ]+\|")
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_STOP = frozenset(
    """
    a an and are as at be been being but by can could do for from had has have he her his how if in into is it
    its may not of on only one or our over she should so some such than that the their them then there these
    they this those to two was we were what when where which who whom whose why will with would you your also
    aber als am an auf aus auch bei dass das dem den der des die durch ein eine einem einen einer eines er es
    für hat hatte haben ich im in ist kann man mit nicht nur oder sich sie sind über um und vom von wann war
    waren warum was welche welcher welches wer werden wie wir wird wo worden wurde wurden zu zum zur
    """.split()  # noqa: SIM905 -- as a list it fills a page
)
"""English and German words that say nothing about a subject."""


def sentences(text: str) -> list[str]:
    """The sentences of a text, or of a piece of Markdown without its marks and code blocks.

    Questions are left out: a heading that asks what a reader asks is no answer.
    """
    parts = (" ".join(_MARKS.sub(" ", part.strip()).split()) for part in _ENDS.split(_CODE.sub("", text)))
    return [
        part[:LONGEST_SENTENCE]
        for part in parts
        if any(character.isalnum() for character in part) and not part.endswith("?")
    ]


def terms(text: str) -> set[str]:
    """What a text speaks of: its words without the empty ones, cut to a stem, and its numbers."""
    found: set[str] = set()
    for word in _WORD.findall(text):
        if any(character.isdigit() for character in word):
            found.add(_number(word))
        elif word.casefold() not in _STOP and (len(word) > 3 or word[0].isupper()):
            # five letters stand for a word in its other forms: placed, places, placement
            found.add(word.casefold()[:5])
    return found


def numbers(text: str) -> set[str]:
    """The numbers of a text, however their digits are grouped."""
    return {term for term in terms(text) if any(character.isdigit() for character in term)}


def pairs(text: str) -> set[tuple[str, str]]:
    """The pairs of neighbouring words of a text."""
    words = [word.casefold() for word in _WORD.findall(text)]
    return set(pairwise(words))


def share(some: set[T], of: Iterable[T]) -> float:
    """Which share of some things is among the others; 1 where there is nothing to find."""
    return len(some & set(of)) / len(some) if some else 1.0


def is_repetitive(text: str) -> bool:
    """Whether a text goes round in circles, as small models sometimes do."""
    words = [word.casefold() for word in _WORD.findall(text)]
    threes = list(zip(words, words[1:], words[2:], strict=False))
    return len(threes) > 5 and len(set(threes)) < 0.7 * len(threes)


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Similarity of two vectors: 1 is the same direction, 0 has nothing in common."""
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def _number(word: str) -> str:
    return re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", word).casefold()
