"""OpenTelemetry's GenAI conventions (profile R of docs/design.md), to hold spans and metrics against.

The tables follow ``gen-ai-spans.yaml`` and ``gen-ai-metrics.yaml`` of the conventions at 1.41, as amended since; the
JSON schemas beside this file in ``semconv/`` are theirs, unchanged.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema.exceptions import best_match
from jsonschema.validators import validator_for
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

_SCHEMAS = Path(__file__).parent / "semconv"
_JSON = {
    "gen_ai.input.messages": "input-messages",
    "gen_ai.output.messages": "output-messages",
    "gen_ai.system_instructions": "system-instructions",
    "gen_ai.tool.definitions": "tool-definitions",
    "gen_ai.retrieval.documents": "retrieval-documents",
}
_TYPES: dict[str, type] = {
    **dict.fromkeys(
        (
            "aws.bedrock.guardrail.id",
            "aws.bedrock.knowledge_base.id",
            "aws.request_id",
            "error.type",
            "gen_ai.agent.description",
            "gen_ai.agent.id",
            "gen_ai.agent.name",
            "gen_ai.agent.version",
            "gen_ai.memory.query.text",
            "gen_ai.memory.record.id",
            "gen_ai.memory.records",
            "gen_ai.memory.store.id",
            "gen_ai.conversation.id",
            "gen_ai.data_source.id",
            "gen_ai.input.messages",
            "gen_ai.operation.name",
            "gen_ai.output.messages",
            "gen_ai.output.type",
            "gen_ai.prompt.name",
            "gen_ai.prompt.version",
            "gen_ai.provider.name",
            "gen_ai.request.model",
            "gen_ai.request.stream_cursor",
            "gen_ai.request.previous_response.id",
            "gen_ai.request.reasoning.level",
            "gen_ai.response.id",
            "gen_ai.response.model",
            "gen_ai.response.status",
            "gen_ai.retrieval.documents",
            "gen_ai.retrieval.query.text",
            "gen_ai.system_instructions",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.id",
            "gen_ai.tool.call.result",
            "gen_ai.tool.definitions",
            "gen_ai.tool.description",
            "gen_ai.tool.name",
            "gen_ai.tool.type",
            "gen_ai.workflow.name",
            "openai.api.type",
            "openai.request.service_tier",
            "openai.response.service_tier",
            "openai.response.system_fingerprint",
            "server.address",
            "session.id",
            "user.id",
        ),
        str,
    ),
    **dict.fromkeys(
        (
            "gen_ai.embeddings.dimension.count",
            "gen_ai.request.choice.count",
            "gen_ai.request.max_tokens",
            "gen_ai.request.seed",
            "gen_ai.request.top_k",
            "gen_ai.retrieval.top_k",
            "gen_ai.usage.audio.input_tokens",
            "gen_ai.usage.audio.output_tokens",
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.audio.cache_read.input_tokens",
            "gen_ai.usage.image.cache_read.input_tokens",
            "gen_ai.usage.image.input_tokens",
            "gen_ai.usage.image.output_tokens",
            "gen_ai.usage.text.cache_read.input_tokens",
            "gen_ai.usage.text.output_tokens",
            "gen_ai.memory.record.count",
            "gen_ai.usage.input_tokens",
            "gen_ai.usage.text.input_tokens",
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.reasoning.output_tokens",
            "server.port",
        ),
        int,
    ),
    **dict.fromkeys(
        (
            "gen_ai.request.frequency_penalty",
            "gen_ai.request.presence_penalty",
            "gen_ai.request.temperature",
            "gen_ai.request.top_p",
            "gen_ai.response.time_to_first_chunk",
        ),
        float,
    ),
    **dict.fromkeys(
        ("gen_ai.request.encoding_formats", "gen_ai.request.stop_sequences", "gen_ai.response.finish_reasons"), tuple
    ),
    "gen_ai.request.stream": bool,
    "gen_ai.conversation.compacted": bool,
}
_VALUES = {
    "gen_ai.output.type": {"text", "json", "image", "speech"},
    "gen_ai.tool.type": {"function", "extension", "datastore"},
    "openai.api.type": {"chat_completions", "responses"},
}
_PROVIDER = re.compile(r"[a-z][a-z0-9_.]*")  # the list of the conventions is open
# INTERNAL is a model in this process, and no other: see _about_operation.
_MODEL = ({SpanKind.CLIENT, SpanKind.INTERNAL}, ["gen_ai.provider.name"], "gen_ai.request.model")
_IN_PROCESS = {"transformers", "vllm"}  # providers that are libraries
# operation -> kinds, what is required, and the attribute that ends the span's name
_OPERATIONS: dict[str, tuple[set[SpanKind], list[str], str]] = {
    "chat": _MODEL,
    "text_completion": _MODEL,
    "embeddings": _MODEL,
    "retrieval": ({SpanKind.CLIENT}, [], "gen_ai.data_source.id"),
    "execute_tool": ({SpanKind.INTERNAL}, ["gen_ai.tool.name"], "gen_ai.tool.name"),
    "generate_content": _MODEL,
    "fetch_response": ({SpanKind.CLIENT}, ["gen_ai.provider.name", "gen_ai.response.id"], ""),
    # INTERNAL runs in this process, CLIENT at a provider.
    "invoke_agent": ({SpanKind.INTERNAL, SpanKind.CLIENT}, [], "gen_ai.agent.name"),
    "create_agent": ({SpanKind.CLIENT}, [], "gen_ai.agent.name"),
    "plan": ({SpanKind.INTERNAL}, [], "gen_ai.agent.name"),
    **dict.fromkeys(
        (
            *("create_memory_store", "search_memory", "create_memory", "update_memory", "upsert_memory"),
            *("delete_memory", "delete_memory_store"),
        ),
        ({SpanKind.CLIENT, SpanKind.INTERNAL}, [], ""),
    ),
    "invoke_workflow": ({SpanKind.INTERNAL}, [], "gen_ai.workflow.name"),
}


def problems(span: ReadableSpan) -> list[str]:
    """What *span* has against the conventions, a line each; a span that is not of GenAI has nothing."""
    attributes = dict(span.attributes or {})
    found = [line for name, value in attributes.items() for line in _about(name, value)]
    if (operation := attributes.get("gen_ai.operation.name")) is not None:
        found += _about_operation(span, str(operation), attributes)
    failed = span.status.status_code is StatusCode.ERROR
    if span.status.status_code is StatusCode.OK:
        found.append("status is OK, which only the application may set")
    if failed != ("error.type" in attributes) and any(name.startswith(("gen_ai.", "mlspan.")) for name in attributes):
        found.append(f"status {span.status.status_code.name} and error.type {attributes.get('error.type')!r} disagree")
    return [f"{span.name}: {line}" for line in found]


def _about(name: str, value: Any) -> list[str]:
    want = str if name.startswith("gen_ai.prompt.variable.") else _TYPES.get(name)
    if want is None:
        return [f"{name} is no name of the conventions"] if name.startswith(("gen_ai.", "openai.")) else []
    if type(value) is not want:
        return [f"{name} is {type(value).__name__}, not {want.__name__}"]
    if name == "gen_ai.provider.name" and not _PROVIDER.fullmatch(value):
        return [f"{name} is no name of a provider: {value!r}"]
    if name in _VALUES and value not in _VALUES[name]:
        return [f"{name} has no value {value!r}"]
    return _about_json(name, value) if name in _JSON else []


def _about_json(name: str, text: str) -> list[str]:
    try:
        problem = best_match(_validator(_JSON[name]).iter_errors(json.loads(text)))
    except json.JSONDecodeError as error:
        return [f"{name}: {error}"]
    return [f"{name}: {str(problem).splitlines()[0]}"] if problem is not None else []


@cache
def _validator(schema: str) -> Any:
    read = json.loads((_SCHEMAS / f"gen-ai-{schema}.json").read_text())
    return validator_for(read)(read)


def _about_operation(span: ReadableSpan, operation: str, attributes: dict[str, Any]) -> list[str]:
    if operation not in _OPERATIONS:
        return [f"unknown operation {operation}"]
    kinds, required, subject = _OPERATIONS[operation]
    found = [f"{name} is missing" for name in required if name not in attributes]
    if attributes.get("openai.api.type") and "gen_ai.request.model" not in attributes:
        found.append("gen_ai.request.model is missing")
    method = attributes.get("mcp.method.name")  # its own spans have either side's kind, and the name of the method
    if span.kind not in kinds and not (method and span.kind in {SpanKind.CLIENT, SpanKind.SERVER}):
        found.append(f"kind is {span.kind.name}")
    is_local = attributes.get("gen_ai.provider.name") in _IN_PROCESS
    if kinds is _MODEL[0] and span.kind is SpanKind.INTERNAL and not is_local:
        found.append(f"kind is {span.kind.name}")
    first = method if method and span.kind is not SpanKind.INTERNAL else operation
    name = " ".join(filter(None, (first, attributes.get(subject))))
    if span.name != name:
        found.append(f"its name should be {name!r}")
    unfinished = attributes.get("gen_ai.response.status") in {None, "queued", "in_progress"}
    if operation == "fetch_response" and unfinished and any(name.startswith("gen_ai.usage.") for name in attributes):
        found.append("tokens are counted by who sees the end of the answer")
    return found


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_METRICS = {
    "gen_ai.client.operation.duration": ("s", _SECONDS),
    "gen_ai.client.token.usage": ("{token}", _TOKENS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", _SECONDS),
    "gen_ai.client.operation.time_per_output_chunk": ("s", _SECONDS),
    "gen_ai.execute_tool.duration": ("s", _SECONDS),
    "gen_ai.invoke_agent.duration": ("s", (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)),
    "gen_ai.invoke_workflow.duration": ("s", (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)),
}
_DIMENSIONS = {
    *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"),
    *("server.address", "server.port", "error.type", "gen_ai.token.type"),
    *("gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.tool.type", "gen_ai.workflow.name"),
}


def metric_problems(metric: Any) -> list[str]:
    """What a metric of ours has against the conventions: its unit, buckets and dimensions."""
    if metric.name not in _METRICS:
        return [f"{metric.name} is no name of the conventions"]
    unit, bounds = _METRICS[metric.name]
    found = [f"{metric.name}: unit {metric.unit}"] if metric.unit != unit else []
    for point in metric.data.data_points:
        if tuple(point.explicit_bounds) != bounds:
            found.append(f"{metric.name}: buckets {point.explicit_bounds}")
        found += [f"{metric.name}: dimension {name}" for name in set(point.attributes) - _DIMENSIONS]
        found += [
            f"{metric.name}: lacks {n}"
            for n in ("gen_ai.operation.name", "gen_ai.provider.name")[: 2 if ".client." in metric.name else 1]
            if n not in point.attributes
        ]
    return found
