"""Topology files: a topology, or one line that names file, key and remedy."""

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.dev.topology_file import _value
from orchestrator.errors import TopologyError
from orchestrator.topology import Topology, load_topology
from tests.fuzz.profile import fuzzed, mutated
from tests.topology.test_load import GOOD

WITH_ALL = GOOD.replace(
    'cell = "us"\n',
    'cell = "us"\nbus = "nats://127.0.0.1:4222"\nstore = { url = "s3://bucket", region = "us-1" }\n',
    1,
)

texts = st.sampled_from(
    [
        "eu",
        "us",
        "frankfurt",
        "DE",
        "chat",
        "model",
        "http://127.0.0.1:1",
        "s3://b/p",
        "file:///f",
        "",
        "é",
        "a b",
    ]
) | st.text(max_size=12)
scalars = texts | st.integers() | st.booleans() | st.floats() | st.sampled_from([10**30, -1, 0])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
KEYS = [
    *("address", "namespace", "region", "profile", "ui", "coordinates", "country", "jurisdictions", "cell"),
    *("serves", "control", "bus", "bus_secret_env", "store", "url", "endpoint", "secret_env", "secret_file"),
    *("offers", "kind", "name", "protocol", "target", "slots", "price", "warm_up"),
]
keys = st.sampled_from(KEYS)
tables = st.dictionaries(keys, values, max_size=6)
offers = st.lists(tables, max_size=2)


def load(folder: Path, text: bytes) -> Topology | None:
    path = folder / "topology.toml"
    path.write_bytes(text)
    try:
        return load_topology(path)
    except TopologyError as error:
        told = str(error)
        assert told.startswith(str(path))
        assert "\n" not in told
        assert len(told) < 2000
        return None


def test_the_original_is_one(tmp_path: Path) -> None:
    assert load(tmp_path, WITH_ALL.encode()) is not None


@fuzzed(300)
@given(text=mutated(WITH_ALL.encode()))
def test_damaged_text(tmp_path: Path, text: bytes) -> None:
    load(tmp_path, text)


@fuzzed(100)
@given(text=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes(tmp_path: Path, text: bytes) -> None:
    load(tmp_path, text)


def written(table: dict[str, Any]) -> str:
    return "".join(f"{_quoted(key)} = {_toml(value)}\n" for key, value in table.items())


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{ " + ", ".join(f"{_quoted(key)} = {_toml(item)}" for key, item in value.items()) + " }"
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case str():
            return _value(value.encode("utf-8", "replace").decode())
        case _:
            return _value(value)


def _quoted(key: str) -> str:
    return _toml(key)


@fuzzed(300)
@given(
    cells=st.dictionaries(texts, tables, max_size=2),
    regions=st.dictionaries(texts, tables, max_size=2),
    offered=offers,
    links=st.lists(st.dictionaries(st.sampled_from(["source", "target", "rtt_ms", "x"]), values), max_size=2),
    more=tables,
)
def test_any_structure(
    tmp_path: Path,
    cells: dict[str, Any],
    regions: dict[str, Any],
    offered: list[Any],
    links: list[Any],
    more: dict[str, Any],
) -> None:
    text = written(more)
    for kind, named in (("cells", cells), ("regions", regions)):
        for name, table in named.items():
            text += f"[{kind}.{_quoted(name)}]\n{written(table)}"
    for offer in offered:
        for name in regions:
            text += f"[[regions.{_quoted(name)}.offers]]\n{written(offer)}"
    text += "".join(f"[[links]]\n{written(link)}" for link in links)
    load(tmp_path, text.encode())


@fuzzed(200)
@given(data=st.data())
def test_one_wrong_value_in_a_good_file(tmp_path: Path, data: st.DataObject) -> None:
    lines = WITH_ALL.splitlines()
    assignments = [index for index, line in enumerate(lines) if " = " in line]
    index = data.draw(st.sampled_from(assignments))
    key = lines[index].split(" = ")[0]
    lines[index] = f"{key} = {_toml(data.draw(values))}"
    load(tmp_path, "\n".join(lines).encode())


@fuzzed(100)
@given(matrix=mutated(b",frankfurt,ashburn\nfrankfurt,0.5,91\nashburn,91,0.5\n"))
def test_a_damaged_table_of_round_trip_times(tmp_path: Path, matrix: bytes) -> None:
    (tmp_path / "rtt.csv").write_bytes(matrix)
    load(tmp_path, f'{GOOD}\n[rtt]\ntable = "rtt.csv"\n'.encode())
