"""Filling the regions' collection ``handbook`` with Markdown.

It is cut by heading, embedded once, and written to every region.
``python -m orchestrator.dev.index --topology FILE DOCUMENT...`` does it for the regions of a topology.
"""

import argparse
import asyncio
import hashlib
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.backends import Backends
from orchestrator.backends.collections import Point
from orchestrator.errors import BackendError, StackError, TopologyError
from orchestrator.topology import OfferKey, Region, load_topology

COLLECTION = OfferKey("collection", "handbook")

LONGEST_PASSAGE = 1000
"""Characters: about 250 tokens, half of what the embedding model reads at a time, and few enough
that several passages fit into a question to the chat model."""

BATCH = 16
REPORT_EVERY = 64

HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*")
FENCE = re.compile(r"\s{0,3}(```+|~~~+)")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that says something by itself."""

    source: str
    """The file, as it was named."""

    title: str
    """The headings above it: ``Edgeward › Topology``."""

    text: str

    @property
    def identity(self) -> str:
        """The same for the same passage, also in the next run."""
        return hashlib.sha256(f"{self.source}\0{self.embedded}".encode()).hexdigest()[:32]

    @property
    def embedded(self) -> str:
        """What is embedded: a passage is often understood only below its headings."""
        return f"{self.title}\n{self.text}" if self.title else self.text


def passages(source: str, markdown: str, *, longest: int = LONGEST_PASSAGE) -> list[Passage]:
    """A Markdown text as passages, none of them longer than asked.

    It is cut at headings, then between paragraphs, then between lines, then between words. A code
    block stays with the text before it where there is room.
    """
    found: list[Passage] = []
    for title, blocks in _sections(markdown):
        pieces = [piece for block in blocks for piece in _cut(block, longest)]
        text = ""
        for piece in pieces:
            if text and len(text) + 2 + len(piece) > longest:
                found.append(Passage(source, title, text))
                text = piece
            else:
                text = f"{text}\n\n{piece}" if text else piece
        if text:
            found.append(Passage(source, title, text))
    return found


def markdown_files(places: Iterable[Path]) -> list[Path]:
    """The Markdown files among these files and below these folders, hidden ones left out.

    Raises:
        StackError: One of them does not exist.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            below = (path for path in sorted(place.rglob("*.md")) if path.is_file())
            files += [path for path in below if not _hidden(path.relative_to(place))]
        elif place.is_file():
            files.append(place)
        else:
            raise StackError(f"there is no document {place}; name a Markdown file or a folder of them")
    return list(dict.fromkeys(files))


def default_documents(folder: Path) -> list[Path]:
    """``README.md`` and ``docs/`` of a folder, as far as they are there."""
    return [place for place in (folder / "README.md", folder / "docs") if place.exists()]


async def fill(
    regions: Sequence[Region],
    files: Sequence[Path],
    *,
    cache: Path,
    progress: Callable[[str], None] | None = None,
) -> int:
    """Make the regions' handbooks from these files, and nothing else.

    Vectors of passages that were embedded before come from the cache.

    Args:
        regions: Those whose collections are written. The first one's model embeds.
        files: Markdown.
        cache: A SQLite file; made when it is missing.
        progress: Gets a line now and then.

    Returns:
        How many passages each handbook holds.

    Raises:
        StackError: A file cannot be read, or a collection not be written.
    """
    found: dict[str, Passage] = {}
    for file in files:
        for passage in passages(str(file), _text(file)):
            found[passage.identity] = passage
    try:
        points = await _points(list(found.values()), regions[0], cache, progress or (lambda _: None))
        for region in regions:
            await _write(region, points)
    except (BackendError, OSError, sqlite3.Error) as error:
        raise StackError(f"cannot fill the handbook: {error}") from error
    return len(points)


def main() -> None:
    """Read the command line and fill the handbooks of a topology's regions."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--topology", type=Path, required=True, help="topology file")
    parser.add_argument("documents", type=Path, nargs="+", help="Markdown files, and folders of them")
    arguments = parser.parse_args()
    try:
        regions = load_topology(arguments.topology).regions
        files = markdown_files(arguments.documents)
        with tempfile.TemporaryDirectory() as folder:
            filling = fill(regions, files, cache=Path(folder) / "vectors.db", progress=_told)
            count = asyncio.run(filling)
    except (StackError, TopologyError) as error:
        sys.exit(str(error))
    _told(f"handbook  {count} passages of {len(files)} files in {len(regions)} regions")


def _told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 -- a command


async def _points(
    wanted: list[Passage], region: Region, cache: Path, progress: Callable[[str], None]
) -> list[Point]:
    model = region.offer(OfferKey("model", "embed"))
    name = model.target if model is not None else None
    with closing(_Vectors(cache, str(name))) as vectors:
        missing = [passage for passage in wanted if vectors.get(passage.embedded) is None]
        async with Backends(region) as backends:
            for start in range(0, len(missing), BATCH):
                if start and start % REPORT_EVERY == 0:
                    progress(f"handbook  {start} of {len(missing)} passages embedded")
                texts = [passage.embedded for passage in missing[start : start + BATCH]]
                embedded = await backends.model("embed").embed(texts, purpose="passage")
                vectors.put(dict(zip(texts, embedded, strict=True)))
        return [_point(passage, vectors.get(passage.embedded) or ()) for passage in wanted]


def _point(passage: Passage, vector: Sequence[float]) -> Point:
    payload = {"source": passage.source, "title": passage.title, "text": passage.text}
    return Point(id=passage.identity, vector=tuple(vector), payload={**payload})


async def _write(region: Region, points: Sequence[Point]) -> None:
    offer = region.offer(COLLECTION)
    if offer is None:
        return
    if offer.spoken == "qdrant-edge":
        # what an earlier start left: documents may have changed or gone
        folder = Path(unquote(urlsplit(offer.endpoint).path))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    async with Backends(region) as backends:
        await backends.collection(COLLECTION.name).upsert(points, create=True)


class _Vectors:
    """Vectors by what was embedded, kept from start to start."""

    def __init__(self, file: Path, model: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._model = model
        self._database = sqlite3.connect(file)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB) STRICT"
        )

    def get(self, text: str) -> tuple[float, ...] | None:
        row = self._database.execute(
            "SELECT vector FROM vectors WHERE text = ?", (self._key(text),)
        ).fetchone()
        return None if row is None else struct.unpack(f"<{len(row[0]) // 4}f", row[0])

    def put(self, vectors: dict[str, list[float]]) -> None:
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                [(self._key(text), struct.pack(f"<{len(v)}f", *v)) for text, v in vectors.items()],
            )

    def close(self) -> None:
        self._database.close()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._model}\0{text}".encode()).digest()


def _sections(markdown: str) -> list[tuple[str, list[str]]]:
    """Title and blocks (paragraphs, code blocks) of each section."""
    sections: list[tuple[str, list[str]]] = [("", [])]
    above: list[tuple[int, str]] = []
    block: list[str] = []
    fence = ""

    def end_block() -> None:
        if text := "\n".join(block).strip("\n"):
            sections[-1][1].append(text)
        block.clear()

    for line in markdown.splitlines():
        opened = FENCE.match(line)
        if fence:
            block.append(line)
            if opened and opened[1].startswith(fence):
                fence = ""
                end_block()
        elif opened:
            fence = opened[1]
            block.append(line)
        elif heading := HEADING.fullmatch(line):
            end_block()
            level = len(heading[1])
            above = [*(pair for pair in above if pair[0] < level), (level, heading[2])]
            sections.append((" › ".join(title for _, title in above), []))
        elif line.strip():
            block.append(line)
        else:
            end_block()
    end_block()
    return sections


def _cut(text: str, longest: int) -> list[str]:
    """A block in pieces that are short enough: between lines, else between words, else anywhere."""
    pieces: list[str] = []
    while len(text) > longest:
        end = max(text.rfind("\n", 1, longest + 1), 0) or max(text.rfind(" ", 1, longest + 1), 0) or longest
        pieces.append(text[:end].rstrip())
        text = text[end:].strip("\n ") if end < longest else text[end:].lstrip()
    return [piece for piece in (*pieces, text) if piece.strip()]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise StackError(f"cannot read the document {file}: {reason}") from error


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


if __name__ == "__main__":
    main()
