"""Every fenced block of the README, of CONTRIBUTING and of docs/ works; and the trying itself does."""

from pathlib import Path

import pytest

from orchestrator.errors import TopologyError
from tests.documented import (
    Block,
    BlockError,
    blocks,
    commands,
    load_toml,
    parse_json,
    run_python,
    try_command,
)

CHECKOUT = Path(__file__).resolve().parent.parent

PAGES = [
    path
    for path in [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted(CHECKOUT.glob("docs/**/*.md"))]
    if path.exists()
]


@pytest.fixture(params=PAGES, ids=[str(path.relative_to(CHECKOUT)) for path in PAGES])
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_python_runs(page: Path, tmp_path: Path) -> None:
    run_python(page, tmp_path)


def test_topologies_load_and_json_parses(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "toml":
            load_toml(block, tmp_path)
        elif block.language == "json":
            parse_json(block)


def test_commands_exist(page: Path) -> None:
    for block in blocks(page):
        if block.language == "console":
            for words in commands(block):
                try_command(words, CHECKOUT)


def written(folder: Path, text: str) -> Path:
    path = folder / "a page.md"
    path.write_text(text, encoding="utf-8")
    return path


PYTHON = """# A page

```python
from helper import twice
number = twice(2)
```

```python file=helper.py
def twice(value: int) -> int:
    return 2 * value
```

Later, it goes on:

```python
assert number == 4, number
```

```python skip
raise SystemExit("never run")
```
"""


def test_python_blocks_of_a_page_are_one_module_beside_their_files(tmp_path: Path) -> None:
    assert sorted(run_python(written(tmp_path, PYTHON), tmp_path)) == ["helper.py", "page_a_page.py"]


def test_a_failing_python_block_is_named_by_the_line_of_the_page(tmp_path: Path) -> None:
    page = written(tmp_path, PYTHON.replace("number == 4", "number == 5"))
    with pytest.raises(BlockError, match=r"line 16, in <module>(.|\n)*AssertionError: 4"):
        run_python(page, tmp_path)


def test_a_workflow_can_be_defined_on_a_page(tmp_path: Path) -> None:
    page = written(
        tmp_path,
        "```python\nfrom temporalio import workflow\n\n@workflow.defn\nclass Hello:\n"
        "    @workflow.run\n    async def run(self) -> str:\n        return 'hello'\n```\n",
    )
    assert run_python(page, tmp_path) == ["page_a_page.py"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\ndef\n```\n", r"a page\.md:1: is no Python"),
        ("```python\nx = 1\n", r"a page\.md:1: the block is not closed"),
        ("text\n\n```pyhton\nx = 1\n```\n", r"a page\.md:3: nothing tries 'pyhton'"),
    ],
)
def test_a_block_that_cannot_be_tried_is_an_error(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(BlockError, match=expected):
        run_python(written(tmp_path, text), tmp_path)


def test_fences_may_be_longer_and_hold_fences(tmp_path: Path) -> None:
    page = written(tmp_path, '~~~text\n```python\nnever\n```\n~~~\n````json\n["```"]\n````\n')
    assert [(block.language, block.line, block.text) for block in blocks(page)] == [
        ("text", 1, "```python\nnever\n```\n"),
        ("json", 6, '["```"]\n'),
    ]


def block(language: str, text: str) -> Block:
    return Block("page.md", 1, language, {}, text)


def test_a_topology_is_loaded_and_other_toml_is_left(tmp_path: Path) -> None:
    cell = '[cells.a]\naddress = "h:1"\nregion = "r"\n'
    topology = cell + '[regions.r]\ncoordinates = [1, 2.0]\ncountry = "PT"\ncell = "a"\n'
    assert load_toml(block("toml", topology), tmp_path)
    assert not load_toml(block("toml", "[tool.ruff]\n"), tmp_path)
    with pytest.raises(TopologyError, match="unknown cell 'b'"):
        load_toml(block("toml", topology.replace('cell = "a"', 'cell = "b"')), tmp_path)


def test_json_and_json_lines() -> None:
    parse_json(block("json", '{\n"a": 1}\n'))
    parse_json(block("json", '{"a": 1}\n{"a": 2}\n'))
    with pytest.raises(BlockError, match="is no JSON"):
        parse_json(block("json", '{"a": ...}\n'))


def test_commands_of_a_console_block() -> None:
    text = "$ make test \\\n    ARGS='-k home'\nall passed\n$ edgeward plan explain X  # why\n"
    assert commands(block("console", text)) == [
        ["make", "test", "ARGS=-k home"],
        ["edgeward", "plan", "explain", "X"],
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["make", "test", "ARGS=tests/placement"],
        ["edgeward", "--help"],
        ["edgeward", "regions", "list"],
        ["EDGEWARD_TOPOLOGY=t.toml", "edgeward", "plan", "explain", "Research", "--origin", "Lisbon"],
    ],
)
def test_a_command_that_exists(words: list[str]) -> None:
    assert try_command(words, CHECKOUT)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["make", "nothing"], "No rule to make target"),
        (["edgeward", "fly"], "edgeward has no command fly"),
        (["edgeward", "plan", "explain", "Research", "--orgin", "Lisbon"], "has no option --orgin"),
    ],
)
def test_a_command_that_does_not(words: list[str], expected: str) -> None:
    with pytest.raises(BlockError, match=expected):
        try_command(words, CHECKOUT)


def test_commands_of_others_are_not_ours_to_try() -> None:
    assert not try_command(["pip", "install", "edgeward"], CHECKOUT)
