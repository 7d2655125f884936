"""Every attribute name and fixed value that the sidecar writes on spans and metrics, in one place.

The GenAI names are of OpenTelemetry semantic conventions v1.41.1, the last release that has them; later ones
live in a repository of their own, with renames.
"""
# ruff: noqa: S105 (these tokens are counted, not kept secret)

from __future__ import annotations

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.1"
SCOPE: Final = "driftline"

# General
ERROR_TYPE: Final = "error.type"
HTTP_REQUEST_ID: Final = "http.request.header.x-request-id"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"

# GenAI
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
VLLM: Final = "vllm"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
JSON: Final = "json"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"
TOKEN_TYPE: Final = "gen_ai.token.type"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
OPENAI_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"
SERVER_TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"
SERVER_TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"

# Langfuse: https://langfuse.com/integrations/native/opentelemetry#property-mapping
LANGFUSE_OBSERVATION_TYPE: Final = "langfuse.observation.type"
LANGFUSE_USAGE_DETAILS: Final = "langfuse.observation.usage_details"
LANGFUSE_COST_DETAILS: Final = "langfuse.observation.cost_details"
LANGFUSE_COMPLETION_START_TIME: Final = "langfuse.observation.completion_start_time"
LANGFUSE_SESSION_ID: Final = "langfuse.session.id"
LANGFUSE_USER_ID: Final = "langfuse.user.id"
LANGFUSE_ENVIRONMENT: Final = "langfuse.environment"
LANGFUSE_RELEASE: Final = "langfuse.release"
LANGFUSE_TRACE_NAME: Final = "langfuse.trace.name"
LANGFUSE_TRACE_TAGS: Final = "langfuse.trace.tags"
LANGFUSE_METADATA: Final = "langfuse.trace.metadata."
"""A prefix."""

# OpenInference (Phoenix, Arize)
OPENINFERENCE_SPAN_KIND: Final = "openinference.span.kind"
COST_PROMPT: Final = "llm.cost.prompt"
COST_COMPLETION: Final = "llm.cost.completion"
COST_TOTAL: Final = "llm.cost.total"

# Ours
OUTCOME: Final = "driftline.outcome"
POOL: Final = "driftline.pool"
VARIANT: Final = "driftline.variant"
TEAM: Final = "driftline.team"
PRODUCT: Final = "driftline.product"
FEATURE: Final = "driftline.feature"
COST_SOURCE: Final = "driftline.cost.source"
COST_PARTIAL: Final = "driftline.cost.partial"
USAGE_PARTIAL: Final = "driftline.usage.partial"
RECORD_TRUNCATED: Final = "driftline.record.truncated"
QUALITY: Final = "driftline.quality."
"""A prefix; the signal's name follows."""
CONTENT_ORIGINAL_BYTES: Final = "driftline.content.original_bytes."
"""A prefix; the name of the truncated attribute follows."""

OBSERVATION_TYPES: Final = {"chat": "generation", "text_completion": "generation", "embeddings": "embedding"}
"""Operation → `langfuse.observation.type`."""
SPAN_KINDS: Final = {"chat": "LLM", "text_completion": "LLM", "embeddings": "EMBEDDING"}
"""Operation → `openinference.span.kind`."""
