import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.queues import agents_queue, checked_kind, kind_of, region_of, step_queue

REGIONS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
KINDS = st.from_regex(r"[a-z]([a-z0-9_-]{0,61}[a-z0-9])?", fullmatch=True).filter(
    lambda kind: kind != "agents"
)


@given(REGIONS, KINDS)
def test_a_step_queue_is_read_back(region: str, kind: str) -> None:
    queue = step_queue(region, kind)
    assert (region_of(queue), kind_of(queue)) == (region, kind)


@given(REGIONS)
def test_an_agents_queue_has_a_region_and_no_kind_of_step(region: str) -> None:
    queue = agents_queue(region)
    assert (region_of(queue), kind_of(queue)) == (region, None)


@pytest.mark.parametrize(
    "queue", ["", "agents", "my-queue", "eu.Model", "eu.model.gpu", "EU.model", ".model", "eu."]
)
def test_queues_that_were_named_otherwise_belong_to_no_region(queue: str) -> None:
    assert region_of(queue) is None
    assert kind_of(queue) is None


@pytest.mark.parametrize(
    "kind", ["", "Model", "gpu.large", "model ", "1st", "-model", "model-", "m" * 64, "modèle"]
)
def test_a_kind_that_is_no_name_is_refused_with_a_remedy(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="start with a lower-case letter"):
        step_queue("eu", kind)


def test_the_kind_of_workflows_is_refused_for_steps() -> None:
    with pytest.raises(ConfigurationError, match="names the queues of workflows"):
        checked_kind("agents")
