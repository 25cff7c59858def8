"""What ``edgeward setup`` registers in a namespace, and what it says where it cannot."""

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client

from orchestrator.dev.temporal_server import CellServer
from orchestrator.dispatch.visibility.registration import NAMES_OF_TYPES, register_attributes
from orchestrator.dispatch.visibility.search_attributes import TYPES
from orchestrator.errors import CellUnavailableError, SetupError
from tests.dispatch.conftest import namespace


async def add(client: Client, **types: str) -> None:
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=client.namespace,
            search_attributes={
                name: IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{kind}") for name, kind in types.items()
            },
        )
    )


async def test_what_is_missing_is_registered_and_the_rest_stays(unregistered: CellServer) -> None:
    client = await namespace(unregistered.address, "half-done")
    await add(client, EdgewardHome="KEYWORD", City="KEYWORD")
    done = await register_attributes(client)
    assert done.present == ("EdgewardHome",)
    assert set(done.added) == set(TYPES) - {"EdgewardHome"}
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="half-done")
    )
    known = {
        name: IndexedValueType.Name(kind).removeprefix("INDEXED_VALUE_TYPE_").title().replace("_", "")
        for name, kind in answer.custom_attributes.items()
    }
    assert known == {**NAMES_OF_TYPES, "City": "Keyword"}


async def test_another_type_is_told_with_the_remedy(unregistered: CellServer) -> None:
    client = await namespace(unregistered.address, "other-type")
    await add(client, EdgewardPlaces="KEYWORD")
    with pytest.raises(SetupError, match=r"EdgewardPlaces is Keyword; it needs EdgewardPlaces=KeywordList"):
        await register_attributes(client)


async def test_a_full_namespace_is_told(unregistered: CellServer) -> None:
    client = await namespace(unregistered.address, "full")
    await add(client, One="KEYWORD_LIST", Two="KEYWORD_LIST", Three="KEYWORD_LIST")
    with pytest.raises(SetupError, match=r"(?s)full does not take them: .*KeywordList"):
        await register_attributes(client)


async def test_a_server_that_is_away_is_told() -> None:
    client = await Client.connect("127.0.0.1:1", lazy=True)
    with pytest.raises(CellUnavailableError, match="is its server running"):
        await register_attributes(client)
