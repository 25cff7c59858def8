"""The port to vector stores: the same tests for each store, each of them real."""

import math
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.backends import Backends, Point
from orchestrator.errors import BackendRefusedError, ConfigurationError
from orchestrator.topology.model import Offer
from tests.backends.conftest import region

STORES = ["qdrant-edge", "pgvector"]


@pytest.fixture(params=STORES)
async def offer(request, tmp_path):
    if request.param == "pgvector":
        endpoint = request.getfixturevalue("postgres_url")
        return Offer(kind="collection", name="handbook", endpoint=endpoint, target=f"t-{uuid.uuid4().hex}")
    return Offer(kind="collection", name="handbook", endpoint=f"file://{tmp_path}/with%20blank")


@pytest.fixture
async def collection(offer):
    async with Backends(region(offer)) as backends:
        yield backends.collection("handbook")


POINTS = [
    Point(id="north", vector=(0, 1, 0), payload={"lang": "en", "tags": ["cold", "far"], "pages": 3}),
    Point(id="north-east", vector=(1, 1, 0), payload={"lang": "de", "tags": ["far"], "text": "Größe ☃"}),
    Point(id="east", vector=(2, 0, 0), payload={"lang": "en", "nested": {"a": [1, None, True]}}),
    Point(id="up", vector=(0, 0, 1)),
]


async def test_the_nearest_come_first_with_their_similarity(collection):
    await collection.upsert(POINTS, create=True)
    hits = await collection.search([0, 3, 0], limit=3)
    assert [hit.id for hit in hits[:2]] == ["north", "north-east"]
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert hits[1].score == pytest.approx(math.sqrt(0.5), abs=1e-6)
    assert hits[2].score == pytest.approx(0, abs=1e-6)
    assert [hit.payload for hit in hits[:2]] == [POINTS[0].payload, POINTS[1].payload]
    assert len(await collection.search([0, 3, 0])) == 4


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"lang": "en"}, {"north", "east"}),
        ({"tags": "far"}, {"north", "north-east"}),
        ({"tags": "far", "lang": "en"}, {"north"}),
        ({"lang": "fr"}, set()),
        ({"unknown": "en"}, set()),
        ({"pages": "3"}, set()),
        ({}, {"north", "north-east", "east", "up"}),
    ],
)
async def test_only_what_the_payload_allows(collection, where, found):
    await collection.upsert(POINTS, create=True)
    assert {hit.id for hit in await collection.search([1, 1, 1], where=where)} == found


async def test_a_point_is_replaced_taken_out_and_counted(collection):
    await collection.upsert(POINTS, create=True)
    await collection.upsert([Point(id="up", vector=(1, 0, 0), payload={"lang": "pt"})])
    assert await collection.count() == 4
    assert (await collection.search([1, 0, 0], where={"lang": "pt"}))[0].score == pytest.approx(1, abs=1e-6)
    await collection.delete(["up", "nobody"])
    assert await collection.count() == 3
    await collection.delete([])
    await collection.upsert([])
    assert await collection.count() == 3


async def test_points_come_back_in_the_order_asked(collection):
    await collection.upsert(POINTS, create=True)
    points = await collection.get(["east", "nobody", "north"])
    assert [point.id for point in points] == ["east", "north"]
    assert points[0].payload == POINTS[2].payload
    direction = points[0].vector[0] / math.hypot(*points[0].vector)
    assert direction == pytest.approx(1, abs=1e-6)
    assert await collection.get([]) == []


async def test_what_was_kept_is_there_when_it_is_opened_again(offer):
    async with Backends(region(offer)) as backends:
        await backends.collection("handbook").upsert(POINTS, create=True)
    async with Backends(region(offer)) as backends:
        assert await backends.collection("handbook").count() == 4
        await backends.collection("handbook").upsert(POINTS[:1], create=True)
        assert await backends.collection("handbook").count() == 4


async def test_two_users_of_one_process_share_it(offer):
    async with Backends(region(offer)) as first, Backends(region(offer)) as second:
        await first.collection("handbook").upsert(POINTS, create=True)
        assert await second.collection("handbook").count() == 4
        await first.aclose()
        assert await second.collection("handbook").count() == 4


@pytest.mark.parametrize("way", ["search", "upsert", "get", "delete", "count"])
async def test_nothing_is_made_by_mistake(collection, way):
    arguments = {
        "search": ([1, 0, 0],),
        "upsert": (POINTS,),
        "get": (["up"],),
        "delete": (["up"],),
        "count": (),
    }
    with pytest.raises(BackendRefusedError, match="create=True") as missing:
        await getattr(collection, way)(*arguments[way])
    assert missing.value.region == "eu-central"
    await collection.upsert(POINTS, create=True)
    assert await collection.count() == 4


async def test_vectors_of_another_model_are_refused(collection):
    await collection.upsert(POINTS, create=True)
    with pytest.raises(BackendRefusedError, match="model"):
        await collection.search([1, 0])
    with pytest.raises(BackendRefusedError, match="model"):
        await collection.upsert([Point(id="flat", vector=(1, 0))], create=True)
    assert await collection.count() == 4


async def test_what_no_store_can_do_is_refused_before_it_is_asked(collection):
    for arguments in [{"vector": [0, 0, 0]}, {"vector": [math.nan]}, {"vector": []}]:
        with pytest.raises(ConfigurationError, match="vector"):
            await collection.search(**arguments)
    for limit in (0, 1001):
        with pytest.raises(ConfigurationError, match="limit"):
            await collection.search([1, 0, 0], limit=limit)
    with pytest.raises(ConfigurationError, match="where"):
        await collection.search([1, 0, 0], where={"a.b[]": "x"})
    with pytest.raises(ConfigurationError, match="several lengths"):
        await collection.upsert([POINTS[0], Point(id="flat", vector=(1, 0))], create=True)
    for vector in [(), (0.0, 0.0), (math.inf,)]:
        with pytest.raises(ValidationError):
            Point(id="x", vector=vector)


component = st.floats(min_value=-100, max_value=100, width=32)
vectors = st.lists(component, min_size=4, max_size=4).filter(lambda vector: math.hypot(*vector) > 0.01)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.lists(vectors, min_size=1, max_size=30), asked=vectors, limit=st.integers(1, 10))
async def test_the_hits_are_those_of_a_search_one_by_one(collection, kept, asked, limit):
    points = [Point(id=f"{count}", vector=tuple(vector)) for count, vector in enumerate(kept)]
    await collection.upsert(points, create=True)
    hits = await collection.search(asked, limit=limit)
    await collection.delete([point.id for point in points])
    likeness = sorted((cosine(asked, vector) for vector in kept), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(likeness[:limit], abs=1e-4)
    for hit in hits:
        assert hit.score == pytest.approx(cosine(asked, kept[int(hit.id)]), abs=1e-4)


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


async def test_a_thousand_points_are_all_within_reach(collection):
    """With a filter that keeps one in a hundred, a search of the graph still finds enough of them."""
    points = [
        Point(
            id=f"{count}",
            vector=(math.cos(count / 160), math.sin(count / 160), 0.1),
            payload={"lang": "pt" if count % 100 == 0 else "en"},
        )
        for count in range(1000)
    ]
    await collection.upsert(points, create=True)
    hits = await collection.search([1, 0, 0], limit=10, where={"lang": "pt"})
    assert len(hits) == 10
    assert hits[0].id == "0"
    assert len(await collection.search([1, 0, 0], limit=200)) == 200
