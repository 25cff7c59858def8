"""Reading a topology: what a good file becomes, and the one message that a bad one gets."""

from pathlib import Path

import pytest

from orchestrator.errors import TopologyError
from orchestrator.geography import great_circle_km
from orchestrator.topology import OfferKey, Topology, load_topology
from tests.shared_data import shared_data

GOOD = """
[cells.eu]
address = "localhost:7233"
region = "frankfurt"

[cells.us]
profile = "us-cloud"
region = "ashburn"

[regions.frankfurt]
coordinates = [50.1, 8.7]
country = "DE"
cell = "eu"
control = "http://127.0.0.1:9001"

[[regions.frankfurt.offers]]
kind = "model"
name = "chat"
endpoint = "http://127.0.0.1:8080/v1"
slots = 2
price = 0.5

[[regions.frankfurt.offers]]
kind = "collection"
name = "handbook"
endpoint = "postgresql://edge@localhost/handbook"
secret_env = "HANDBOOK_PASSWORD"

[regions.ashburn]
coordinates = [39.0, -77.5]
country = "US"
jurisdictions = ["NORTH-AMERICA"]
cell = "us"
serves = ["us"]

[[links]]
source = "frankfurt"
target = "ashburn"
rtt_ms = 91.5

[[links]]
source = "ashburn"
target = "ashburn"
rtt_ms = 0.5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "topology.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str) -> Topology:
    return load_topology(written(folder, text))


def test_a_good_file(tmp_path: Path) -> None:
    topology = loaded(tmp_path, GOOD)
    frankfurt, ashburn = topology.regions
    assert frankfurt.jurisdictions == {"DE", "EU"}
    assert ashburn.jurisdictions == {"US", "NORTH-AMERICA"}
    assert topology.served_cells(frankfurt) == ("eu", "us")
    assert topology.is_served("us", frankfurt)
    assert topology.served_cells(ashburn) == ("us",)
    assert not topology.is_served("eu", ashburn)
    assert frankfurt.offered == {OfferKey("model", "chat"), OfferKey("collection", "handbook")}
    assert frankfurt.offered_names == {'model "chat"', 'collection "handbook"'}
    handbook = frankfurt.offer(OfferKey("collection", "handbook"))
    assert handbook is not None
    assert handbook.spoken == "pgvector"
    assert topology.cell("us").profile == "us-cloud"
    assert topology.source == str(tmp_path / "topology.toml")


def test_distances_are_measured_else_estimated(tmp_path: Path) -> None:
    topology = loaded(tmp_path, GOOD)
    assert topology.rtt_ms("frankfurt", "ashburn") == 91.5
    assert topology.rtt_ms("ashburn", "frankfurt") == 91.5
    assert topology.rtts_to_ms("ashburn") == (91.5, 0.5)
    estimated = loaded(tmp_path, GOOD.split("[[links]]")[0])
    km = great_circle_km(*(region.coordinates for region in estimated.regions))
    assert 2 * km / 204 < estimated.rtt_ms("frankfurt", "ashburn") < 4 * km / 204
    assert estimated.rtt_ms("frankfurt", "frankfurt") < 1


def test_secrets_are_read_where_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = loaded(tmp_path, GOOD).region("frankfurt").offers[1]
    monkeypatch.setenv("HANDBOOK_PASSWORD", "open sesame")
    assert offer.secret() == "open sesame"
    assert "sesame" not in repr(offer)
    (tmp_path / "key").write_text("from a file\n")
    from_file = GOOD.replace('secret_env = "HANDBOOK_PASSWORD"', f'secret_file = "{tmp_path / "key"}"')
    assert loaded(tmp_path, from_file).region("frankfurt").offers[1].secret() == "from a file"


def test_a_bus_and_its_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = f'{CONTROL}\nbus = "nats://worker@127.0.0.1:4222"\nbus_secret_env = "BUS_PASSWORD"'
    frankfurt = loaded(tmp_path, changed(CONTROL, bus)).region("frankfurt")
    monkeypatch.setenv("BUS_PASSWORD", "open sesame")
    assert (frankfurt.bus, frankfurt.bus_secret()) == ("nats://worker@127.0.0.1:4222", "open sesame")
    assert "sesame" not in repr(frankfurt)
    without = loaded(tmp_path, GOOD).region("frankfurt")
    assert (without.bus, without.bus_secret()) == (None, None)


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


CONTROL = 'control = "http://127.0.0.1:9001"'
OFFER = 'endpoint = "http://127.0.0.1:8080/v1"'

BAD: dict[str, tuple[str, str]] = {
    "empty": ("", "cells: there are none; add at least one [cells.NAME] table"),
    "no regions": (GOOD.split("[regions.frankfurt]")[0], "regions: there are none; add"),
    "no TOML": (GOOD + "\n[cells", "is not valid TOML:"),
    "cell unknown": (changed('cell = "us"', 'cell = "asia"'), "regions.ashburn.cell: unknown cell 'asia'"),
    "cell lists what there is": (
        changed('cell = "us"', 'cell = "asia"'),
        "name one of eu, us or declare [cells.asia]",
    ),
    "served cell unknown": (
        changed('serves = ["us"]', 'serves = ["us", "asia"]'),
        "regions.ashburn.serves: unknown cell 'asia'",
    ),
    "own cell not served": (
        changed('serves = ["us"]', 'serves = ["eu"]'),
        "regions.ashburn.serves: lacks its own cell 'us'; add it",
    ),
    "cell served twice": (
        changed('serves = ["us"]', 'serves = ["us", "us"]'),
        "regions.ashburn: serves the cell 'us' twice; remove one",
    ),
    "cell's region unknown": (
        changed('region = "ashburn"', 'region = "boston"'),
        "cells.us.region: unknown region 'boston'",
    ),
    "region twice": (
        GOOD + "\n[regions.ashburn]\ncountry = 'US'\n",
        "regions.ashburn: is there twice (at line 46, column 17); remove or rename one",
    ),
    "RTT negative": (changed("rtt_ms = 91.5", "rtt_ms = -1"), "links[0].rtt_ms: must be 0 or more, not -1"),
    "RTT infinite": (changed("rtt_ms = 0.5", "rtt_ms = inf"), "links[1].rtt_ms: must be a finite number"),
    "RTT a text": (changed("rtt_ms = 91.5", 'rtt_ms = "fast"'), "links[0].rtt_ms: is a text, not a number"),
    "RTT missing": (changed("rtt_ms = 91.5", ""), "links[0].rtt_ms: is missing; add it"),
    "link's end unknown": (
        changed('target = "ashburn"', 'target = "boston"'),
        "links frankfurt → boston: unknown region 'boston'",
    ),
    "links a table": (
        changed("[[links]]", "[links]").split("[[links]]")[0],
        "links: is a table, not a list; write each as [[links]]",
    ),
    "latitude off the globe": (
        changed("[50.1, 8.7]", "[95.0, 8.7]"),
        "regions.frankfurt.coordinates[0]: must be 90 or less, not 95.0; correct it",
    ),
    "longitude off the globe": (
        changed("[50.1, 8.7]", "[50.1, -181]"),
        "regions.frankfurt.coordinates[1]: must be -180 or more, not -181; correct it",
    ),
    "latitude no number": (
        changed("[50.1, 8.7]", "[nan, 8.7]"),
        "regions.frankfurt.coordinates[0]: must be",
    ),
    "coordinates incomplete": (
        changed("[50.1, 8.7]", "[50.1]"),
        "regions.frankfurt.coordinates[1]: is missing",
    ),
    "coordinates a text": (changed("[50.1, 8.7]", '"50.1,8.7"'), "regions.frankfurt.coordinates: "),
    "country unknown": (
        changed('country = "DE"', 'country = "XX"'),
        "regions.frankfurt.country: 'XX' is no country code",
    ),
    "country in small letters": (
        changed('country = "DE"', 'country = "de"'),
        "regions.frankfurt.country: 'de' is no",
    ),
    "offer without endpoint": (
        changed(OFFER, ""),
        "regions.frankfurt.offers[0].endpoint: is missing; add it",
    ),
    "endpoint without scheme": (
        changed(OFFER, 'endpoint = "localhost/v1"'),
        "regions.frankfurt.offers[0].endpoint: is no endpoint; start it with http://",
    ),
    "endpoint without host": (changed(OFFER, 'endpoint = "http:///v1"'), "offers[0].endpoint: names no host"),
    "endpoint with a password": (
        changed("edge@localhost", "edge:sesame@localhost"),
        "offers[1].endpoint: holds a password; remove it and name it with secret_env or secret_file",
    ),
    "two secrets": (
        changed('secret_env = "H', 'secret_file = "f"\nsecret_env = "H'),
        "regions.frankfurt.offers[1]: has both secret_env and secret_file; keep one",
    ),
    "offer twice": (
        changed('kind = "collection"\nname = "handbook"', 'kind = "model"\nname = "chat"'),
        'regions.frankfurt: offers model "chat" twice; remove or rename one',
    ),
    "kind unknown": (
        changed('kind = "model"', 'kind = "llm"'),
        "offers[0].kind: is 'llm'; write one of 'model', ",
    ),
    "no slots": (changed("slots = 2", "slots = 0"), "offers[0].slots: must be 1 or more, not 0; correct it"),
    "half a slot": (changed("slots = 2", "slots = 2.5"), "offers[0].slots: is a number, not a whole number"),
    "a collection that warms up": (
        changed('name = "handbook"', 'name = "handbook"\nwarm_up = true'),
        "offers[1]: has warm_up, which is a key of models; remove it",
    ),
    "price negative": (
        changed("price = 0.5", "price = -1"),
        "offers[0].price: must be 0 or more, not -1; correct it",
    ),
    "key misspelt": (
        changed("slots = 2", "slot = 2"),
        "offers[0].slot: unknown key; remove it or correct its spelling",
    ),
    "section misspelt": (
        changed("[cells.eu]", "[cell.eu]"),
        "cell: unknown key; a topology has cells, links, regions",
    ),
    "name with a dot": (changed("[cells.eu]", '[cells."e.u"]'), "'e.u' is no usable name"),
    "name in capitals": (
        changed("[regions.ashburn]", "[regions.Ashburn]"),
        "regions.Ashburn: 'Ashburn' is no usable name",
    ),
    "name given twice": (
        changed('address = "localhost:7233"', 'address = "localhost:7233"\nname = "x"'),
        "cells.eu.name: unknown key; the name stands in the header",
    ),
    "cell without address": (
        changed('address = "localhost:7233"', ""),
        "cells.eu: has neither an address nor a profile of temporal.toml; add address",
    ),
    "cell with both": (
        changed('address = "localhost:7233"', 'address = "localhost:7233"\nprofile = "p"'),
        "cells.eu: has both an address and a profile of temporal.toml; keep one",
    ),
    "address with a scheme": (
        changed('"localhost:7233"', '"http://localhost:7233"'),
        "cells.eu.address: 'http://localhost:7233' is no address; write host:port",
    ),
    "control without scheme": (
        changed("http://127.0.0.1:9001", "127.0.0.1:9001"),
        "regions.frankfurt.control: ",
    ),
    "bus without scheme": (
        changed(CONTROL, f'{CONTROL}\nbus = "127.0.0.1:4222"'),
        "regions.frankfurt.bus: is no bus; start it with nats:// or tls://",
    ),
    "bus without host": (
        changed(CONTROL, f'{CONTROL}\nbus = "nats://:4222"'),
        "regions.frankfurt.bus: names no host; write it like nats://127.0.0.1:4222",
    ),
    "bus with a port that is none": (
        changed(CONTROL, f'{CONTROL}\nbus = "nats://127.0.0.1:99999"'),
        "regions.frankfurt.bus: is no URL (Port out of range 0-65535); write it like nats://127.0.0.1:4222",
    ),
    "bus with a password": (
        changed(CONTROL, f'{CONTROL}\nbus = "nats://worker:sesame@127.0.0.1:4222"'),
        "regions.frankfurt.bus: holds a password; remove it and name it with bus_secret_env or bus_secret_",
    ),
    "bus with two secrets": (
        changed(
            CONTROL,
            f'{CONTROL}\nbus = "nats://127.0.0.1:4222"\nbus_secret_env = "B"\nbus_secret_file = "b"',
        ),
        "regions.frankfurt: has both bus_secret_env and bus_secret_file; keep one",
    ),
    "secret of no bus": (
        changed(CONTROL, f'{CONTROL}\nbus_secret_env = "B"'),
        'regions.frankfurt: has the secret of a bus and no bus; add bus = "nats://host:4222" or remove it',
    ),
    "cell a text": (
        changed('[cells.eu]\naddress = "localhost:7233"\nregion = "frankfurt"', '[cells]\neu = "x"'),
        "cells.eu: is a text, not a table",
    ),
    "RTT table missing": (GOOD + '\n[rtt]\ntable = "rtt.csv"\n', "rtt.table: "),
    "RTT table unnamed": (GOOD + "\n[rtt]\n", "rtt.table: names no file; write"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_gets_one_message_with_file_key_and_remedy(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TopologyError) as caught:
        load_topology(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert expected in message
    assert "\n" not in message
    assert "sesame" not in message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        TopologyError, match=r"nowhere\.toml: no such file; name a topology with --topology FILE"
    ):
        load_topology(tmp_path / "nowhere.toml")


def test_a_folder_and_a_file_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load_topology(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TopologyError, match="is not UTF-8 text; save it as UTF-8"):
        load_topology(tmp_path / "bytes.toml")


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(load_topology(tmp_path / "windows.toml").regions) == 2


TABLE = GOOD + '\n[rtt]\ntable = "rtt.csv"\n'


def test_a_table_of_round_trip_times_and_a_link_that_overrides_it(tmp_path: Path) -> None:
    (tmp_path / "rtt.csv").write_text(
        ",frankfurt,ashburn,tokyo\nfrankfurt,0.7,90,200\nashburn,,0.9,150\ntokyo,x,y,z\n"
    )
    topology = loaded(tmp_path, TABLE)
    assert topology.rtt_ms("frankfurt", "frankfurt") == 0.7
    assert topology.rtt_ms("frankfurt", "ashburn") == 91.5
    assert topology.rtt_ms("ashburn", "ashburn") == 0.5


def test_a_bad_link_after_a_table_is_counted_as_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "rtt.csv").write_text(",frankfurt,ashburn\nfrankfurt,0.7,90\nashburn,90,0.9\n")
    path = written(tmp_path, TABLE.replace("rtt_ms = 0.5", "rtt_ms = -0.5"))
    with pytest.raises(TopologyError, match=r"links\[1\]\.rtt_ms: must be 0 or more"):
        load_topology(path)


@pytest.mark.parametrize("cell", ["-3", "near", "inf", "nan"])
def test_a_bad_cell_of_the_table_is_named_by_line_and_column(tmp_path: Path, cell: str) -> None:
    (tmp_path / "rtt.csv").write_text(f",frankfurt,ashburn\nfrankfurt,0.7,90\nashburn,{cell},0.9\n")
    expected = rf"rtt\.csv, line 3, column frankfurt: '{cell}' is no round trip time; write milliseconds"
    with pytest.raises(TopologyError, match=expected):
        loaded(tmp_path, TABLE)


def test_the_measured_matrix_of_32_regions_is_read_whole(tmp_path: Path) -> None:
    matrix = shared_data("rtt", "aws_p50_matrix_ms.csv")
    names = matrix.read_text().splitlines()[0].split(",")[1:]
    regions = "".join(
        f'[regions.{name}]\ncoordinates = [0.0, 0.0]\ncountry = "DE"\ncell = "only"\n' for name in names
    )
    topology = loaded(
        tmp_path,
        f'[cells.only]\naddress = "localhost:7233"\nregion = "{names[0]}"\n'
        f'{regions}[rtt]\ntable = "{matrix}"\n',
    )
    assert len(topology.links) == len(names) ** 2
