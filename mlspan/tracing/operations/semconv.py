"""Names of all attributes, events and metrics that mlspan emits, each once.

Names follow the OpenTelemetry GenAI conventions (profile R of ``docs/design.md``: what is released). If the
``opentelemetry-semantic-conventions`` package is behind, the string stands here with the change that it follows.
``mlspan.*`` names are for what has no convention yet.
"""

from typing import Final

# Operations: values of OPERATION.
CHAT: Final = "chat"
GENERATE_CONTENT: Final = "generate_content"
TEXT_COMPLETION: Final = "text_completion"
EMBEDDINGS: Final = "embeddings"
RETRIEVAL: Final = "retrieval"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"
CREATE_AGENT: Final = "create_agent"
INVOKE_WORKFLOW: Final = "invoke_workflow"
FETCH_RESPONSE: Final = "fetch_response"
PLAN: Final = "plan"
HANDLE_CONVERSATION_TURN: Final = "handle_conversation_turn"
MEMORY_OPERATIONS: Final = (
    *("create_memory_store", "delete_memory_store", "search_memory", "create_memory", "update_memory"),
    *("upsert_memory", "delete_memory"),
)

# The operation and its server.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
CONVERSATION_COMPACTED: Final = "gen_ai.conversation.compacted"  # only ever true
OUTPUT_TYPE: Final = "gen_ai.output.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
ERROR_OTHER: Final = "_OTHER"  # the type of an error whose type cannot be told

# The request.
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_PREVIOUS_RESPONSE_ID: Final = "gen_ai.request.previous_response.id"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_STREAM_CURSOR: Final = "gen_ai.request.stream_cursor"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"

PROMPT_NAME: Final = "gen_ai.prompt.name"
PROMPT_VERSION: Final = "gen_ai.prompt.version"
PROMPT_VARIABLE_PREFIX: Final = "gen_ai.prompt.variable."  # + the variable's name

# The response.
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_STATUS: Final = "gen_ai.response.status"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"  # was cache_creation (#440)
USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
USAGE_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
USAGE_AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
USAGE_AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
USAGE_TEXT_OUTPUT_TOKENS: Final = "gen_ai.usage.text.output_tokens"
USAGE_IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
USAGE_TEXT_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.text.cache_read.input_tokens"
USAGE_IMAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
USAGE_PREFIX: Final = "mlspan.usage."  # + the provider's own name of a count that the conventions have no name for
COUNTED_BY: Final = "mlspan.counted_by"  # whose tokens count in place of the span's: a span's id, or CALLS_BELOW
CALLS_BELOW: Final = "calls below"  # the span adds up the calls below it
INSTRUMENTATION: Final = "mlspan.instrumentation"  # whose span it is, if not mlspan's: the name of its scope
USAGE_LONG_CACHE_WRITE_INPUT_TOKENS: Final = "mlspan.usage.cache_write_1h.input_tokens"  # a part of the cache writes
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"

# Messages: each attribute is one JSON string.
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"

# Tools, agents, workflows, retrieval.
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_DESCRIPTION: Final = "gen_ai.agent.description"
AGENT_VERSION: Final = "gen_ai.agent.version"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
# Memory: in the conventions' changelog, and in no release yet.
MEMORY_STORE_ID: Final = "gen_ai.memory.store.id"
MEMORY_RECORD_ID: Final = "gen_ai.memory.record.id"
MEMORY_RECORD_COUNT: Final = "gen_ai.memory.record.count"
MEMORY_QUERY: Final = "gen_ai.memory.query.text"
MEMORY_RECORDS: Final = "gen_ai.memory.records"  # JSON

DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"  # was request.top_k

# Databases.
DB_SYSTEM: Final = "db.system.name"
DB_COLLECTION: Final = "db.collection.name"
DB_NAMESPACE: Final = "db.namespace"
DB_OPERATION: Final = "db.operation.name"
DB_RETURNED_ROWS: Final = "db.response.returned_rows"

# The conventions' additions for OpenAI.
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_RESPONSE_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"

# The conventions' additions for AWS, and of Bedrock.
AWS_REQUEST_ID: Final = "aws.request_id"
AWS_GUARDRAIL_ID: Final = "aws.bedrock.guardrail.id"
AWS_KNOWLEDGE_BASE_ID: Final = "aws.bedrock.knowledge_base.id"

# The event that tells all of a call to a model.
DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"

# Evaluations of an answer: an event of the span that produced it.
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# MCP: requests, and the connections that they take.
MCP_METHOD: Final = "mcp.method.name"
MCP_PROTOCOL_VERSION: Final = "mcp.protocol.version"
MCP_RESOURCE_URI: Final = "mcp.resource.uri"
MCP_SESSION_ID: Final = "mcp.session.id"
JSONRPC_REQUEST_ID: Final = "jsonrpc.request.id"
RPC_STATUS_CODE: Final = "rpc.response.status_code"  # of JSON-RPC, where the response is an error
CLIENT_ADDRESS: Final = "client.address"
CLIENT_PORT: Final = "client.port"
NETWORK_TRANSPORT: Final = "network.transport"  # "pipe" or "tcp"
NETWORK_PROTOCOL_NAME: Final = "network.protocol.name"
NETWORK_PROTOCOL_VERSION: Final = "network.protocol.version"

# The caller: OpenTelemetry's general names.
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"

# Names without a convention.
KIND: Final = (
    "mlspan.kind"  # of a step: "chain", "node", "parser", "reranker", "guardrail", "fit", or the user's own word
)
INPUT: Final = "mlspan.input"  # JSON
OUTPUT: Final = "mlspan.output"  # JSON
OUTPUT_SCHEMA: Final = "mlspan.output.schema"  # JSON: the schema that an answer was asked to follow
STREAM_END: Final = "mlspan.stream.end"  # only if a stream was left early: "closed" or "abandoned"
INTERRUPTED: Final = "mlspan.interrupted"  # true: the run has ended to wait for a person
LINK: Final = "mlspan.link"  # of a span link: "asked_by", "triggered_by", "resumes", "handed_off_by", "trained_by"
REQUEST_VERBOSITY: Final = "mlspan.request.verbosity"  # "low", "medium" or "high"
GUARDRAIL_ACTION: Final = "mlspan.guardrail.action"  # what a guardrail has done, in the provider's words
REQUEST_RETRIES: Final = "mlspan.request.retries"  # how often the client itself has sent the request again
RESPONSE_SERVICE_TIER: Final = "mlspan.response.service_tier"  # in which the call was billed, where that is not OpenAI
RESPONSE_UPSTREAM: Final = "mlspan.response.upstream"  # the provider behind the one that was asked, such as a router
USAGE_COST: Final = "mlspan.usage.cost"  # in US dollars, where the provider itself says what it charges
USAGE_INPUT_COST: Final = "mlspan.usage.input_cost"  # the part of it that is for the input
USAGE_ESTIMATED_COST: Final = "mlspan.usage.estimated_cost"  # by a framework's price list, for models that ours lacks
USAGE_ACCEPTED_PREDICTION_TOKENS: Final = "mlspan.usage.prediction.accepted_tokens"
USAGE_REJECTED_PREDICTION_TOKENS: Final = "mlspan.usage.prediction.rejected_tokens"  # billed as output tokens, too
RETRIEVAL_FILTER: Final = "mlspan.retrieval.filter"  # JSON: what else a search in a database demands of its records
RECORD_COUNT: Final = "mlspan.records.count"  # so many were written to a database, or deleted
VECTOR_COUNT: Final = "mlspan.vectors.count"  # so many vectors were searched with
VECTOR_DIMENSION: Final = "mlspan.vectors.dimension"
PROMPTS: Final = "mlspan.prompts"  # string array: "name/version" of each prompt of MLflow's registry that was used
CLIENT_REQUEST_ID: Final = "mlspan.client_request.id"  # the id that the caller's own system has for the request
EXPECTATION_EVENT: Final = "mlspan.expectation"
MLFLOW_ASSESSMENT_EVENT: Final = "mlspan.mlflow_assessment"  # one that only MLflow has a form for
ASSESSMENT: Final = "mlspan.assessment"  # of a span that only carries an event for another, ended span
ASSESSMENT_NAME: Final = "mlspan.assessment.name"  # of an expectation
ASSESSMENT_VALUE: Final = "mlspan.assessment.value"  # JSON: keeps the type, which the score does not
ASSESSMENT_SOURCE: Final = "mlspan.assessment.source"  # "human", "llm_judge", "code"
ASSESSMENT_SOURCE_ID: Final = "mlspan.assessment.source.id"
ASSESSMENT_METADATA: Final = "mlspan.assessment.metadata"  # JSON
TRACE_UPDATE: Final = "mlspan.trace.update"  # JSON: what MLflow's functions have written to the trace
TAG_PREFIX: Final = "mlspan.tag."  # + the key of tracing.tags(key="value")

# Trainings, and the link from a span to MLflow.
RUN_ID: Final = "mlspan.run.id"  # the run of a training
MODEL_ID: Final = (
    "mlspan.model.id"  # of the MLflow LoggedModel that a training made, a prediction used, or a trace belongs to
)
FIT: Final = "fit"  # the KIND of a training
PREDICT: Final = "predict"  # likewise, of a trained model's prediction
FIT_LIBRARY: Final = "mlspan.fit.library"
FIT_ESTIMATOR: Final = "mlspan.fit.estimator"
FIT_PARAMS: Final = "mlspan.fit.params"  # JSON
FIT_ROWS: Final = "mlspan.fit.rows"
FIT_FEATURES: Final = "mlspan.fit.features"
FIT_EPOCHS: Final = "mlspan.fit.epochs"  # the number of epochs
FIT_METRICS: Final = "mlspan.fit.metrics"  # JSON
FIT_EPOCH_EVENT: Final = "epoch"
FIT_EPOCH: Final = "mlspan.fit.epoch"  # of an event: the epoch's number, from 0
FIT_METRIC_PREFIX: Final = "mlspan.fit.metric."  # of an event: + a metric's name
FIT_BEST_PARAMS: Final = "mlspan.fit.best_params"  # JSON; of a search
FIT_BEST_SCORE: Final = "mlspan.fit.best_score"
FIT_REFIT_TIME: Final = "mlspan.fit.refit_time"  # seconds, of the fit on all the data after a search
FIT_CANDIDATES: Final = "mlspan.fit.candidates"  # the number of a search's candidates
FIT_CANDIDATE_EVENT: Final = "candidate"
FIT_CANDIDATE: Final = "mlspan.fit.candidate"  # of an event: the candidate's number, from 0
FIT_FOLDS: Final = "mlspan.fit.folds"  # the number of a cross-validation's folds
FIT_FOLD_EVENT: Final = "fold"
FIT_FOLD: Final = "mlspan.fit.fold"  # of an event: the fold's number, from 0
SEARCH: Final = "search"  # the KIND of a search for the best parameters, whose trials are spans of their own
SEARCH_NAME: Final = "mlspan.search.name"
SEARCH_DIRECTIONS: Final = "mlspan.search.directions"  # "minimize" or "maximize", for each value of a trial
SEARCH_BEST_TRIALS: Final = "mlspan.search.best_trials"  # their numbers; several where a trial has several values
SEARCH_PRUNED: Final = "mlspan.search.pruned"  # the number of trials that were given up early
SEARCH_FAILED: Final = "mlspan.search.failed"  # the number of trials that ended without a value
TRIAL: Final = "trial"  # the KIND of a trial of a search
TRIAL_NUMBER: Final = "mlspan.trial.number"  # from 0
TRIAL_STATE: Final = "mlspan.trial.state"  # "complete", "pruned" or "failed"
LOG: Final = "log"  # the KIND of what MLflow stores of a training that is done
LOG_MODELS: Final = "mlspan.log.models"  # ids
LOG_METRICS: Final = "mlspan.log.metrics"  # the number of metrics
LOG_FILES: Final = "mlspan.log.files"  # names
LOG_BYTES: Final = "mlspan.log.bytes"  # of the files
LOG_FAILED: Final = "mlspan.log.failed"  # what could not be logged, and why

# Metrics.
METRIC_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
METRIC_TOKEN_USAGE: Final = "gen_ai.client.token.usage"
METRIC_TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
METRIC_MCP_CLIENT_DURATION: Final = "mcp.client.operation.duration"
METRIC_MCP_SERVER_DURATION: Final = "mcp.server.operation.duration"
METRIC_TIME_PER_OUTPUT_CHUNK: Final = "gen_ai.client.operation.time_per_output_chunk"
METRIC_TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
METRIC_AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
METRIC_WORKFLOW_DURATION: Final = "gen_ai.invoke_workflow.duration"
TOKEN_TYPE: Final = "gen_ai.token.type"
