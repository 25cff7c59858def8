import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends import Backends
from orchestrator.dev.embedding_server import start_embedding_server
from orchestrator.dev.index import default_documents, fill, markdown_files, passages
from orchestrator.dev.processes import Supervisor, free_ports
from orchestrator.dev.regions import Ports, embedded_topology
from orchestrator.errors import StackError
from orchestrator.topology import Region

GUIDE = """\
Before any heading.

# Guide

A first paragraph
on two lines.

## Regions ##

A region is a place with workers.

```toml
# no heading

[regions.eu]
```

### Jurisdictions

Whose law reaches the data.

## Cells

A cell keeps histories.
"""


def test_a_text_is_cut_at_its_headings() -> None:
    assert [(passage.title, passage.text) for passage in passages("guide.md", GUIDE)] == [
        ("", "Before any heading."),
        ("Guide", "A first paragraph\non two lines."),
        (
            "Guide › Regions",
            "A region is a place with workers.\n\n```toml\n# no heading\n\n[regions.eu]\n```",
        ),
        ("Guide › Regions › Jurisdictions", "Whose law reaches the data."),
        ("Guide › Cells", "A cell keeps histories."),
    ]


def test_a_long_section_is_cut_between_paragraphs_then_lines_then_words() -> None:
    text = "# T\n\none two\n\nthree four\n\nfive\nsix seven eight\n\nabcdefghijklmnopqrstuvwxyz"
    assert [passage.text for passage in passages("x", text, longest=18)] == [
        *("one two", "three four\n\nfive", "six seven eight", "abcdefghijklmnopqr", "stuvwxyz")
    ]


@given(st.text(st.sampled_from("ab #`\n~é"), max_size=300), st.integers(3, 60))
def test_no_passage_is_too_long_or_empty(text: str, longest: int) -> None:
    for passage in passages("x", text, longest=longest):
        assert 0 < len(passage.text) <= longest
        assert passage.text.strip()


@given(st.text(st.sampled_from("ab `\n~é"), max_size=300), st.integers(3, 60))
def test_only_headings_and_blanks_are_no_passages(text: str, longest: int) -> None:
    kept = "".join(passage.text for passage in passages("x", text, longest=longest))
    assert "".join(kept.split()) == "".join(text.split())


def test_documents_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs" / ".hidden").mkdir(parents=True)
    for name in ("README.md", "docs/b.md", "docs/a.md", "docs/x.txt", "docs/.hidden/c.md"):
        (tmp_path / name).write_text("# T\n\ntext")
    places = default_documents(tmp_path)
    found = markdown_files([*places, tmp_path / "README.md"])
    assert [str(file.relative_to(tmp_path)) for file in found] == ["README.md", "docs/a.md", "docs/b.md"]
    assert default_documents(tmp_path / "docs") == []
    with pytest.raises(StackError, match=r"no document .*none\.md; name a Markdown file"):
        markdown_files([tmp_path / "none.md"])


@pytest.fixture(scope="module")
async def embedding(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    [port] = free_ports(1)
    async with Supervisor(tmp_path_factory.mktemp("embedding")) as supervisor:
        await start_embedding_server(supervisor, port=port, threads=1)
        yield port


def regions(folder: Path, embedding: int) -> tuple[Region, ...]:
    names = ("eu-central", "us-east")
    ports = dict.fromkeys(names, 1)
    return embedded_topology(names, Ports(1, embedding, 1, ports, {}, ports), folder / "collections").regions


async def ask(region: Region, question: str) -> list[str]:
    async with Backends(region) as backends:
        [vector] = await backends.model("embed").embed([question], purpose="query")
        hits = await backends.collection("handbook").search(vector, limit=2)
    return [str(hit.payload["title"]) for hit in hits]


async def test_a_question_finds_its_passage_in_every_region(tmp_path: Path, embedding: int) -> None:
    file = tmp_path / "guide.md"
    file.write_text(GUIDE, encoding="utf-8")
    made = regions(tmp_path, embedding)
    cache = tmp_path / "vectors.db"
    assert await fill(made, [file], cache=cache) == 5
    for region in made:
        assert (await ask(region, "Which law applies?"))[0] == "Guide › Regions › Jurisdictions"

    # the second time only what changed is embedded, and what is gone is gone
    file.write_text(GUIDE.replace("### Jurisdictions\n\nWhose law reaches the data.\n", ""), encoding="utf-8")
    assert await fill(made, [file], cache=cache) == 4
    for region in made:
        assert "Guide › Regions › Jurisdictions" not in await ask(region, "Which law applies?")


async def test_a_known_passage_needs_no_model(tmp_path: Path, embedding: int) -> None:
    file = tmp_path / "guide.md"
    file.write_text(GUIDE, encoding="utf-8")
    cache = tmp_path / "vectors.db"
    await fill(regions(tmp_path, embedding), [file], cache=cache)
    [nobody] = free_ports(1)
    assert await fill(regions(tmp_path, nobody), [file], cache=cache) == 5
    file.write_text("# New\n\nUnknown.", encoding="utf-8")
    with pytest.raises(StackError, match=r"cannot fill the handbook: .*embed"):
        await asyncio.wait_for(fill(regions(tmp_path, nobody), [file], cache=cache), 60)


async def test_a_document_that_is_no_text_is_said_plainly(tmp_path: Path, embedding: int) -> None:
    file = tmp_path / "image.md"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StackError, match=r"cannot read the document .*image\.md: it is not UTF-8"):
        await fill(regions(tmp_path, embedding), [file], cache=tmp_path / "vectors.db")
