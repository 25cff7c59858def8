"""Prints the instruments of Edgeward, one JSON object a line: name, unit, kind and attributes.

A process of its own, because the meter provider is one for a whole process.
"""

import json

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Sum

from orchestrator.telemetry import call_metrics, names, step_metrics

STEP = {names.STEP_NAME: "answer", names.PLACE: "frankfurt", names.DISPATCH: names.DISPATCH_QUEUE}
CALL = {names.OPERATION_NAME: names.CHAT, names.REQUEST_MODEL: "chat"}
STORE = {names.DB_SYSTEM_NAME: names.DB_SYSTEM_POSTGRESQL, names.DB_OPERATION_NAME: "search"}


def record() -> None:
    step_metrics.count_running("frankfurt", names.DISPATCH_QUEUE, 1)
    step_metrics.record_step(1.0, 0.5, STEP)
    step_metrics.record_part(names.EXECUTION_PART, 1.0, STEP)
    step_metrics.record_exclusions({"residency": 1})
    step_metrics.record_run(1.0, {names.AGENT_NAME: "Ask"})
    call_metrics.operation_duration.record(1.0, CALL)
    call_metrics.tool_duration.record(1.0, {names.TOOL_NAME: "distance"})
    call_metrics.database_duration.record(1.0, STORE)
    call_metrics.record_first_chunk(0.1, CALL)
    call_metrics.record_tokens(10, 20, CALL)


def main() -> None:
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    record()
    data = reader.get_metrics_data()
    assert data is not None
    for of_resource in data.resource_metrics:
        for scope in of_resource.scope_metrics:
            for metric in scope.metrics:
                kind = "histogram" if isinstance(metric.data, Histogram) else "gauge"
                if isinstance(metric.data, Sum) and metric.data.is_monotonic:
                    kind = "counter"
                attributes = sorted(
                    {key for point in metric.data.data_points for key in point.attributes or {}}
                )
                about = {"name": metric.name, "unit": metric.unit, "kind": kind, "attributes": attributes}
                print(json.dumps(about))


if __name__ == "__main__":
    main()
