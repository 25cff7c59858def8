"""Warms a region's worker before it takes work: what its first run would otherwise wait for.

The first use of anything costs more than the second: a connection is made, an index opened, a
prompt read into a model that has seen none, code loaded. A worker pays for these before it polls.
Nothing here can keep it from starting: what is away, or slow, is noted in the log and left to the
step that needs it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, get_type_hints

import structlog
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHistory
from temporalio.converter import PayloadConverter
from temporalio.runtime import Runtime
from temporalio.worker import Replayer

from orchestrator.application import Application
from orchestrator.backends import Backends, Message
from orchestrator.dispatch import EdgewardPlugin
from orchestrator.errors import BackendRefusedError, EdgewardError
from orchestrator.temporal_seams import workflow_run
from orchestrator.topology import Offer

log = structlog.get_logger(__name__)

WITHIN = timedelta(seconds=10)
"""How long what is slow may delay a worker's start. A backend that refuses connections delays nothing."""

PROMPT = "Hi"
"""Short, and no run's own: what is cached of it serves nobody's answer."""


async def warm_backends(backends: Backends, *, within: timedelta = WITHIN) -> None:
    """Uses each of the region's offers once, all at a time: connections are then open, and models ready.

    Args:
        backends: Of the region.
        within: How long each may take.
    """
    async with asyncio.TaskGroup() as group:
        for offer in backends.region.offers:
            group.create_task(_warm_offer(backends, offer, within))


async def _warm_offer(backends: Backends, offer: Offer, within: timedelta) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(within.total_seconds()):
            await _use(backends, offer, within)
    except TimeoutError:
        reason = f"no answer within {within.total_seconds():g} s"
    except EdgewardError as error:
        reason = str(error)
    except Exception as error:  # a broken driver is no reason not to start either
        reason = type(error).__name__
    else:
        took_ms = round((time.monotonic() - began) * 1000)
        log.info("offer.warm", region=backends.region.name, offer=str(offer.key), took_ms=took_ms)
        return
    log.warning("offer.cold", region=backends.region.name, offer=str(offer.key), reason=reason)


async def _use(backends: Backends, offer: Offer, within: timedelta) -> None:
    match offer.kind:
        case "model":
            await _use_model(backends, offer, within)
        case "collection":
            await backends.collection(offer.name).count()
        case "tool":
            await backends.tool(offer.name).describe(timeout=within)


async def _use_model(backends: Backends, offer: Offer, within: timedelta) -> None:
    model = backends.model(offer.name)
    if not offer.asked_at_start:
        await model.models(timeout=within)
        return
    try:
        await model.chat([Message.user(PROMPT)], max_tokens=1, temperature=0, timeout=within)
    except BackendRefusedError:
        # it does not chat, so it embeds
        await model.embed([PROMPT], purpose="query", timeout=within)


def warm_types(application: Application, converter: PayloadConverter) -> None:
    """Lets the converter prepare the arguments and results of the application's agents and steps."""
    for hint in _types(application):
        try:
            converter.from_payloads([Payload(metadata={"encoding": b"json/plain"}, data=b"null")], [hint])
        except Exception:  # most types have no null; the converter knows the type from now on
            continue


def _types(application: Application) -> Iterator[Any]:
    functions: list[Callable[..., Any]] = [*application.steps, *map(workflow_run, application.agents)]
    for function in functions:
        try:
            hints = get_type_hints(inspect.unwrap(function))
        except (NameError, TypeError):  # names that only type checkers know: the SDK reads none either
            continue
        yield from hints.values()


async def warm_workflows(plugin: EdgewardPlugin, runtime: Runtime, *, within: timedelta = WITHIN) -> None:
    """Runs two workflows that do nothing through the plugin, one in the sandbox and one outside of it.

    They are replayed from a history made here, so that no cell sees them. The SDK prepares the
    sandbox of each agent when its worker is made; what is left is the way of a workflow task
    through core, interceptors and converter, which is the same for all.

    Args:
        plugin: As the workers have it.
        runtime: Of the workers.
        within: How long it may take.
    """
    began = time.monotonic()
    replayer = Replayer(workflows=[_InSandbox, _OutOfSandbox], plugins=[plugin], runtime=runtime)
    try:
        async with asyncio.timeout(within.total_seconds()):
            for name in ("edgeward-warm-up-sandboxed", "edgeward-warm-up"):
                await replayer.replay_workflow(WorkflowHistory.from_json("edgeward-warm-up", _history(name)))
    except Exception as error:  # whatever is wrong, the first run says it better
        log.warning("workflows.cold", reason=f"{type(error).__name__}: {error}".splitlines()[0][:200])
        return
    log.info("workflows.warm", took_ms=round((time.monotonic() - began) * 1000))


@workflow.defn(name="edgeward-warm-up-sandboxed")
class _InSandbox:
    @workflow.run
    async def run(self) -> None:
        """Nothing."""


@workflow.defn(name="edgeward-warm-up", sandboxed=False)
class _OutOfSandbox:
    @workflow.run
    async def run(self) -> None:
        """Nothing."""


def _history(name: str) -> dict[str, Any]:
    started: dict[str, Any] = {
        "workflowType": {"name": name},
        "taskQueue": {"name": "edgeward-warm-up"},
        "originalExecutionRunId": name,
        "firstExecutionRunId": name,
        "workflowTaskTimeout": "10s",
        "attempt": 1,
    }
    events: list[tuple[str, str, dict[str, Any]]] = [
        ("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", "workflowExecutionStartedEventAttributes", started),
        (
            "EVENT_TYPE_WORKFLOW_TASK_SCHEDULED",
            "workflowTaskScheduledEventAttributes",
            {"taskQueue": {"name": "edgeward-warm-up"}, "startToCloseTimeout": "10s", "attempt": 1},
        ),
        (
            "EVENT_TYPE_WORKFLOW_TASK_STARTED",
            "workflowTaskStartedEventAttributes",
            {"scheduledEventId": "2"},
        ),
        (
            "EVENT_TYPE_WORKFLOW_TASK_COMPLETED",
            "workflowTaskCompletedEventAttributes",
            {"scheduledEventId": "2", "startedEventId": "3"},
        ),
        (
            "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED",
            "workflowExecutionCompletedEventAttributes",
            {"workflowTaskCompletedEventId": "4"},
        ),
    ]
    return {
        "events": [
            {
                "eventId": str(number),
                "eventTime": "2000-01-01T00:00:00Z",
                "eventType": kind,
                attributes: values,
            }
            for number, (kind, attributes, values) in enumerate(events, start=1)
        ]
    }
