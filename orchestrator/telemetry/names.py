"""Every name that Edgeward gives to spans, attributes and metrics: a rename is one edit here.

Names come from the OpenTelemetry semantic conventions. Those of generative AI are still in
development, and the package that carries them keeps them under a private path; a name that the
pinned version lacks is written out. Placement has no convention: its names are ``edgeward.*``.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import (  # pyright: ignore[reportMissingTypeStubs] -- a namespace package in a typed one
    cloud_attributes,
    deployment_attributes,
    host_attributes,
    service_attributes,
)
from opentelemetry.semconv._incubating.attributes import (  # pyright: ignore[reportMissingTypeStubs] -- a namespace package in a typed one
    db_attributes as db_incubating,
)
from opentelemetry.semconv._incubating.attributes import (  # pyright: ignore[reportMissingTypeStubs] -- a namespace package in a typed one
    gen_ai_attributes as gen_ai,
)
from opentelemetry.semconv._incubating.metrics import (  # pyright: ignore[reportMissingTypeStubs] -- a namespace package in a typed one
    gen_ai_metrics,
)
from opentelemetry.semconv.attributes import db_attributes as db
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.semconv.metrics import db_metrics

INSTRUMENTATION_SCOPE: Final = "edgeward"
"""Of every tracer and meter."""

WORKER_SERVICE: Final = "edgeward-worker"
CLIENT_SERVICE: Final = "edgeward-client"

# First words of the names of spans that no convention has.
STEP_SPAN: Final = "step"
ATTEMPT_SPAN: Final = "attempt"
QUEUE_WAIT_SPAN: Final = "queue wait"
EMITTED_ELSEWHERE_EVENT: Final = "edgeward.emitted_elsewhere"
"""Of a step's span: it ran in another region than its place."""

# What is done: the value of OPERATION_NAME and the first word of a span's name.
CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"
RETRIEVAL: Final = "retrieval"
EXECUTE_TOOL: Final = "execute_tool"
CREATE_AGENT: Final = "create_agent"
INVOKE_AGENT: Final = "invoke_agent"
INVOKE_WORKFLOW: Final = "invoke_workflow"
PLAN: Final = "plan"
SEARCH_MEMORY: Final = "search_memory"
UPDATE_MEMORY: Final = "update_memory"

# Attributes of generative AI.
OPERATION_NAME: Final = gen_ai.GEN_AI_OPERATION_NAME
PROVIDER_NAME: Final = gen_ai.GEN_AI_PROVIDER_NAME
REQUEST_MODEL: Final = gen_ai.GEN_AI_REQUEST_MODEL
REQUEST_MAX_TOKENS: Final = gen_ai.GEN_AI_REQUEST_MAX_TOKENS
REQUEST_TEMPERATURE: Final = gen_ai.GEN_AI_REQUEST_TEMPERATURE
REQUEST_SEED: Final = gen_ai.GEN_AI_REQUEST_SEED
REQUEST_STREAM: Final = gen_ai.GEN_AI_REQUEST_STREAM
RESPONSE_MODEL: Final = gen_ai.GEN_AI_RESPONSE_MODEL
RESPONSE_ID: Final = gen_ai.GEN_AI_RESPONSE_ID
RESPONSE_FINISH_REASONS: Final = gen_ai.GEN_AI_RESPONSE_FINISH_REASONS
RESPONSE_TIME_TO_FIRST_CHUNK: Final = gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK
USAGE_INPUT_TOKENS: Final = gen_ai.GEN_AI_USAGE_INPUT_TOKENS
USAGE_OUTPUT_TOKENS: Final = gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS
USAGE_CACHE_READ_INPUT_TOKENS: Final = gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS
TOKEN_TYPE: Final = gen_ai.GEN_AI_TOKEN_TYPE
TOKEN_TYPE_INPUT: Final = "input"
TOKEN_TYPE_OUTPUT: Final = "output"
AGENT_ID: Final = gen_ai.GEN_AI_AGENT_ID
AGENT_NAME: Final = gen_ai.GEN_AI_AGENT_NAME
WORKFLOW_NAME: Final = gen_ai.GEN_AI_WORKFLOW_NAME
"""Being merged into :data:`AGENT_NAME`: write both."""
CONVERSATION_ID: Final = gen_ai.GEN_AI_CONVERSATION_ID
DATA_SOURCE_ID: Final = gen_ai.GEN_AI_DATA_SOURCE_ID
"""Joins a ``retrieval`` span and the database client's span below it."""
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
EMBEDDINGS_DIMENSION_COUNT: Final = gen_ai.GEN_AI_EMBEDDINGS_DIMENSION_COUNT
TOOL_NAME: Final = gen_ai.GEN_AI_TOOL_NAME
TOOL_TYPE: Final = gen_ai.GEN_AI_TOOL_TYPE
TOOL_TYPE_EXTENSION: Final = "extension"
"""A tool that is called beside the model, by the agent."""
TOOL_CALL_ID: Final = gen_ai.GEN_AI_TOOL_CALL_ID

# Contents of messages: written only where CAPTURE_MESSAGE_CONTENT says so.
CAPTURE_MESSAGE_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The environment variable that turns the contents on."""
INPUT_MESSAGES: Final = gen_ai.GEN_AI_INPUT_MESSAGES
OUTPUT_MESSAGES: Final = gen_ai.GEN_AI_OUTPUT_MESSAGES
SYSTEM_INSTRUCTIONS: Final = gen_ai.GEN_AI_SYSTEM_INSTRUCTIONS
RETRIEVAL_QUERY_TEXT: Final = gen_ai.GEN_AI_RETRIEVAL_QUERY_TEXT
TOOL_CALL_ARGUMENTS: Final = gen_ai.GEN_AI_TOOL_CALL_ARGUMENTS
TOOL_CALL_RESULT: Final = gen_ai.GEN_AI_TOOL_CALL_RESULT

# Attributes of any call.
ERROR_TYPE: Final = error_attributes.ERROR_TYPE
SERVER_ADDRESS: Final = server_attributes.SERVER_ADDRESS
SERVER_PORT: Final = server_attributes.SERVER_PORT

# Attributes of a database client.
DB_SYSTEM_NAME: Final = db.DB_SYSTEM_NAME
DB_SYSTEM_POSTGRESQL: Final = db.DbSystemNameValues.POSTGRESQL.value
DB_SYSTEM_QDRANT: Final = "qdrant"
DB_NAMESPACE: Final = db.DB_NAMESPACE
DB_COLLECTION_NAME: Final = db.DB_COLLECTION_NAME
DB_OPERATION_NAME: Final = db.DB_OPERATION_NAME
DB_QUERY_SUMMARY: Final = db.DB_QUERY_SUMMARY
DB_RESPONSE_STATUS_CODE: Final = db.DB_RESPONSE_STATUS_CODE
DB_RESPONSE_RETURNED_ROWS: Final = db_incubating.DB_RESPONSE_RETURNED_ROWS

# Attributes of a resource: the process that emits.
SERVICE_NAME: Final = service_attributes.SERVICE_NAME
SERVICE_INSTANCE_ID: Final = service_attributes.SERVICE_INSTANCE_ID
CLOUD_REGION: Final = cloud_attributes.CLOUD_REGION
"""Where the emitter runs; of a step's span it equals :data:`PLACE`."""
DEPLOYMENT_ENVIRONMENT_NAME: Final = deployment_attributes.DEPLOYMENT_ENVIRONMENT_NAME
HOST_ID: Final = host_attributes.HOST_ID

# Attributes of placement.
RUN_ID: Final = "edgeward.run.id"
TEMPORAL_RUN_ID: Final = "temporalRunID"
"""As the spans of Temporal's own SDKs say it."""
STEP_NAME: Final = "edgeward.step.name"
STEP_SEQUENCE: Final = "edgeward.step.sequence"
STEP_PART: Final = "edgeward.step.part"
"""Of a step's wall time: dispatch, queue wait, delivery, execution, return."""
HOME: Final = "edgeward.home"
PLACE: Final = "edgeward.place"
DISPATCH: Final = "edgeward.dispatch"
DISPATCH_INLINE: Final = "inline"
DISPATCH_QUEUE: Final = "queue"
CANDIDATES: Final = "edgeward.candidates"
EXCLUDED: Final = "edgeward.excluded"
EXCLUSION_RULE: Final = "edgeward.exclusion.rule"
PREDICTED_MS: Final = "edgeward.predicted_ms"
QUEUE_WAIT_MS: Final = "edgeward.queue_wait_ms"
DELIVERY_MS: Final = "edgeward.delivery_ms"
CLOCK_SKEW_MS: Final = "edgeward.clock_skew_ms"
"""How far the worker's clock is behind the server's, where a step began before it was handed out."""
RAN_IN: Final = "edgeward.ran_in"
"""Where a step ran, if that is not its place."""
STEP_PARTS: Final = ("queue wait", "delivery", "execution")
QUEUE_WAIT_PART, DELIVERY_PART, EXECUTION_PART = STEP_PARTS
RESIDENCY: Final = "edgeward.residency"
ATTEMPT: Final = "edgeward.attempt"
REPEATED: Final = "edgeward.repeated"
"""Of an inline step that this process has run before: its run was let go before history had the result."""
HEDGED: Final = "edgeward.hedged"
OFFER: Final = "edgeward.offer"
"""The name under which a region offers a model, a collection or a tool."""
CALL_RETRIES: Final = "edgeward.call.retries"
"""Repetitions inside one call to a backend."""

# Metrics of the conventions.
CLIENT_OPERATION_DURATION: Final = gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION
CLIENT_TOKEN_USAGE: Final = gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE
CLIENT_TIME_TO_FIRST_CHUNK: Final = gen_ai_metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK
INVOKE_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
EXECUTE_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
DB_CLIENT_OPERATION_DURATION: Final = db_metrics.DB_CLIENT_OPERATION_DURATION

# Metrics of placement.
STEP_DURATION: Final = "edgeward.step.duration"
STEP_PART_DURATION: Final = "edgeward.step.part.duration"
STEP_PREDICTION_ERROR: Final = "edgeward.step.prediction.error"
"""Between predicted and actual; which way, an attribute says: a histogram takes nothing negative."""
PREDICTED: Final = "edgeward.predicted"
PREDICTED_TOO_MUCH: Final = "too much"
PREDICTED_TOO_LITTLE: Final = "too little"
PLACEMENTS: Final = "edgeward.placements"
EXCLUSIONS: Final = "edgeward.exclusions"
STEPS_IN_FLIGHT: Final = "edgeward.steps.in_flight"
