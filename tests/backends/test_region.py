"""The backends of a region: what it offers, and how steps reach it."""

import asyncio
import builtins

import pytest

from orchestrator import backends
from orchestrator.backends import Backends, Completion, Message, Piece, using
from orchestrator.errors import BackendError, ConfigurationError, OfferMissingError, Recovery
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import region

CHAT = Offer(kind="model", name="chat", endpoint="http://127.0.0.1:1/v1")


async def test_what_a_region_does_not_offer_names_region_and_remedy():
    async with Backends(region(CHAT)) as here:
        for kind in ("model", "collection", "tool"):
            with pytest.raises(
                OfferMissingError, match=rf'no {kind} "judge".*Needs\({kind}="judge"\)'
            ) as missing:
                getattr(here, kind)("judge")
            assert missing.value.region == "eu-central"
            assert missing.value.recovery is Recovery.FINAL
            assert isinstance(missing.value, BackendError)
        with pytest.raises(OfferMissingError, match="it has chat"):
            here.model("judge")


async def test_outside_of_a_worker_it_says_how():
    for reach in (backends.model, backends.collection, backends.tool):
        with pytest.raises(ConfigurationError, match=r"with using\(Backends\(region\)\)"):
            reach("chat")


async def test_each_task_reaches_the_backends_of_its_own_region():
    async def step(here: Backends) -> backends.Model:
        with using(here):
            await asyncio.sleep(0)
            return backends.model("chat")

    async with Backends(region(CHAT)) as one, Backends(region(CHAT)) as two:
        first, second = await asyncio.gather(step(one), step(two))
        assert first is one.model("chat")
        assert second is two.model("chat")
        with using(one), using(two):
            assert backends.model("chat") is second


@pytest.mark.parametrize(
    "offer",
    [
        {"kind": "model", "endpoint": "file:///tmp/x"},
        {"kind": "model", "endpoint": "http://127.0.0.1:1", "protocol": "mcp"},
        {"kind": "collection", "endpoint": "http://127.0.0.1:1", "protocol": "http"},
        {"kind": "collection", "endpoint": "http://127.0.0.1:1"},
        {"kind": "tool", "endpoint": "http://127.0.0.1:1", "protocol": "openai"},
        {"kind": "tool", "endpoint": "postgresql://127.0.0.1/x"},
        {"kind": "tool", "endpoint": "file:///tmp/x", "protocol": "mcp"},
    ],
)
async def test_an_offer_that_cannot_be_spoken_to(offer):
    async with Backends(region(Offer.model_validate({"name": "it", **offer}))) as here:
        with pytest.raises(ConfigurationError, match="region eu-central"):
            getattr(here, offer["kind"])("it")


@pytest.mark.parametrize(
    ("package", "module", "endpoint", "extra"),
    [
        ("qdrant_edge", "qdrant_edge", "file:///tmp/x", "edgeward[qdrant]"),
        ("psycopg", "pgvector", "postgresql://127.0.0.1/x", "edgeward[pgvector]"),
    ],
)
async def test_a_store_that_is_not_installed_names_its_extra(monkeypatch, package, module, endpoint, extra):
    import sys

    real = builtins.__import__

    def without(name, *arguments, **more):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, f"orchestrator.backends.{module}", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    async with Backends(region(Offer(kind="collection", name="handbook", endpoint=endpoint))) as here:
        with pytest.raises(ConfigurationError) as missing:
            here.collection("handbook")
    assert extra in str(missing.value)
    assert package in str(missing.value)


async def test_it_can_be_closed_twice_and_used_again(double):
    double.answer_with(doubles.completion("well"))
    here = Backends(region(Offer(kind="model", name="chat", endpoint=f"{double.url}/v1")))
    for _ in range(2):
        assert (await here.model("chat").chat([Message.user("Hello!")])).text == "well"
        await here.aclose()
    await here.aclose()


def test_messages_are_checked_where_they_are_made():
    for wrong in [
        {"role": "tool", "content": "x"},
        {"role": "user", "tool_call_id": "1"},
        {"role": "user", "tool_calls": [{"id": "1", "name": "x"}]},
        {"role": "nobody"},
    ]:
        with pytest.raises(ValueError):
            Message.model_validate(wrong)


def test_values_travel_as_json():
    said = Message.assistant(tool_calls=[{"id": "1", "name": "x", "arguments": {"a": [1, None]}}])
    assert Message.model_validate_json(said.model_dump_json()) == said
    reply = Completion(text="x", parsed=said)
    assert Completion.model_validate_json(reply.model_dump_json()) == Completion(text="x")
    assert Piece.model_validate_json(Piece(finish_reason="stop").model_dump_json()).last
