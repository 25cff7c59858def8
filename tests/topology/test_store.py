"""The payload store of a region, as an operator writes it."""

from pathlib import Path

import pytest

from orchestrator.dev.topology_file import topology_file
from orchestrator.errors import TopologyError
from orchestrator.topology import load_topology
from tests.topology.test_load import CONTROL, GOOD, changed, loaded, written


def with_store(store: str, elsewhere: str = "") -> str:
    text = changed(CONTROL, f"{CONTROL}\nstore = {store}")
    return text.replace('serves = ["us"]', f'serves = ["us"]\nstore = {elsewhere}') if elsewhere else text


def test_an_address_alone_is_a_store(tmp_path: Path) -> None:
    store = loaded(tmp_path, with_store('"s3://payloads/a/b/"')).region("frankfurt").store
    assert store is not None
    assert (store.bucket, store.prefix, store.folder) == ("payloads", "a/b", None)
    folder = loaded(tmp_path, with_store('"file:///srv/my%20store"')).region("frankfurt").store
    assert folder is not None
    assert folder.folder == Path("/srv/my store")
    assert loaded(tmp_path, GOOD).region("frankfurt").store is None


def test_a_table_says_more_and_is_written_as_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = '{ url = "s3://p", endpoint = "http://127.0.0.1:9000", region = "eu-1", secret_env = "STORE" }'
    topology = loaded(tmp_path, with_store(table))
    store = topology.region("frankfurt").store
    assert store is not None
    monkeypatch.setenv("STORE", "id:sec:ret")
    assert store.secret() == ("id", "sec:ret")
    again = load_topology(written(tmp_path, topology_file(topology)))
    assert again.region("frankfurt").store == store


def test_regions_under_one_law_may_share_a_store(tmp_path: Path) -> None:
    text = with_store('"s3://p"', '"s3://p"').replace('"NORTH-AMERICA"', '"EU", "DE"')
    text = text.replace('country = "US"', 'country = "DE"')
    assert loaded(tmp_path, text).region("ashburn").store == loaded(tmp_path, text).region("frankfurt").store


REFUSED = {
    "another scheme": (
        with_store('"gs://p"'),
        "frankfurt.store: is no store; start it with file:// or s3://",
    ),
    "no bucket": (with_store('"s3://"'), "frankfurt.store: names no host; write it like s3://bucket/prefix"),
    "no folder": (with_store('"file:///"'), "frankfurt.store: names no folder"),
    "a secret": (with_store('"s3://id:secret@p"'), "frankfurt.store: holds a secret; remove it"),
    "a query": (with_store('"s3://p?a=b"'), "frankfurt.store: has more than a bucket and a prefix"),
    "a number": (with_store("3"), "frankfurt.store: is a number, not a table"),
    "a folder with a region": (
        with_store('{ url = "file:///srv/p", region = "eu-1" }'),
        "frankfurt.store: is a folder and has region",
    ),
    "two secrets": (
        with_store('{ url = "s3://p", secret_env = "A", secret_file = "a" }'),
        "frankfurt.store: has both secret_env and secret_file; keep one",
    ),
    "an endpoint without a scheme": (
        with_store('{ url = "s3://p", endpoint = "127.0.0.1:9000" }'),
        "frankfurt.store: is no endpoint of a store; start it with http:// or https://",
    ),
    "no address": (with_store('{ region = "eu-1" }'), "frankfurt.store.url: is missing; add it"),
    "an unknown key": (with_store('{ url = "s3://p", key = "k" }'), "frankfurt.store.key: unknown key"),
    "one store of two laws": (
        with_store('"s3://p"', '"s3://p"'),
        "regions.ashburn.store: is that of frankfurt, which lies in other jurisdictions; give each its own",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_told_with_key_and_remedy(tmp_path: Path, name: str) -> None:
    text, expected = REFUSED[name]
    with pytest.raises(TopologyError) as refused:
        loaded(tmp_path, text)
    assert expected in str(refused.value)
    assert "secret@" not in str(refused.value)
