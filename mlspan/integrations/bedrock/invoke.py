"""InvokeModel and its stream: requests and answers in the model's own format, recognised by their fields.

The formats of requests are here. Those of answers are in ``answers._FORMATS``; Claude's are read as Anthropic's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ..._shape import get_count, get_field, get_integer, get_list, get_nested, get_text, list_items, list_texts
from ...hooks.anthropic_answers import EventReader, set_message_request
from ...hooks.call import BegunCall, Call
from ...hooks.openai_format import read_openai_part, read_openai_tool
from ...hooks.requests import REQUEST_PARAMETERS, FieldMapping, read_provider_usage, set_parameters
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import OutputDraft
from ...tracing.operations.messages import Message, Part, make_tool_call, make_tool_call_response
from ...tracing.operations.records import Chat, Embeddings, ModelCall, ProviderRequest, Record
from ._request import BedrockRequest, note_guardrail, read_metadata, read_service_error, set_counts
from .answers import find_answer_reader
from .converse import set_converse_request

_MOST_BYTES: Final = 32 * 1024 * 1024  # of a body that is read; a larger one is sent unseen
_PARAMETERS: Final[FieldMapping] = {
    **REQUEST_PARAMETERS,
    **dict.fromkeys(("max_gen_len", "max_tokens_to_sample", "maxTokenCount"), ("max_tokens", int)),
    **dict.fromkeys(("p", "topP"), ("top_p", float)),
    "k": ("top_k", int),
}
_HEADERS: Final = tuple(
    f"x-amzn-bedrock-{name}-token-count" for name in ("input", "output", "cache-read-input", "cache-write-input")
)
_METRICS: Final = ("inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount")


def begin_invoke(call: Call, *, stream: bool | None = None) -> BegunCall:
    """Begin the record of a request in the model's own format: a chat, embeddings, or a reranking."""
    ask = BedrockRequest.from_call(call)
    body, model = parse_body(ask.params.get("body")), get_nested(ask.params, "modelId", str)
    record: Record
    if "embed" in (model or "") or "texts" in body:
        record = Embeddings(model=model, **ask.read_server_fields())
        record.dimensions = get_integer(body, "dimensions") or get_integer(body, "output_dimension")
        if ask.capture_content:
            record.input = body.get("texts") or body.get("inputText") or body.get("inputs")
    elif "rerank" in (model or ""):
        record = ProviderRequest(type="reranker", name="invoke_model", model=model, **ask.read_server_fields())
        if ask.capture_content:
            record.input = body
    else:
        record = _make_chat(ask, model, body, stream)
    ask.set_texts(record, guardrail="guardrailIdentifier")
    return record, AnswerReader()


def begin_invoke_stream(call: Call) -> BegunCall:
    """Begin the record of a request in the model's own format whose answer is streamed."""
    return begin_invoke(call, stream=True)


def parse_body(body: object) -> dict[str, Any]:
    """Return the JSON of a request; nothing for a body that is no JSON, is very large, or is a file of the caller's."""
    if not isinstance(body, (str, bytes, bytearray)) or len(body) > _MOST_BYTES:
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _make_chat(ask: BedrockRequest, model: str | None, body: dict[str, Any], stream: bool | None) -> Chat:
    chat = Chat(model=model, stream=stream, draft=OutputDraft(kept=ask.capture_content), **ask.read_server_fields())
    if "messages" not in body and "message" not in body:
        has_prompt = "prompt" in body or "inputText" in body
        chat.operation = sc.TEXT_COMPLETION if has_prompt else sc.GENERATE_CONTENT
    if "anthropic_version" in body:
        set_message_request(chat, body, capture_content=ask.capture_content)
    elif "schemaVersion" in body or "inferenceConfig" in body:  # Amazon's own models
        set_converse_request(chat, body, capture_content=ask.capture_content)
    else:
        for asked in (body, body.get("textGenerationConfig")):
            if isinstance(asked, dict):
                set_parameters(chat, asked, _PARAMETERS)
                stops = asked.get("stop") or asked.get("stop_sequences") or asked.get("stopSequences")
                chat.stop_sequences = list_texts(stops) or None
        if ask.capture_content:
            _set_content(chat, body)
    return chat


def _set_content(chat: Chat, body: dict[str, object]) -> None:
    """Read a prompt, a conversation in Cohere's form, or messages in OpenAI's, which most models have."""
    texts = [(get_text(one, "role"), get_text(one, "message")) for one in get_list(body, "chat_history")]
    texts += [("USER", get_text(body, name)) for name in ("message", "prompt", "inputText")]
    said: list[Message] = [
        {"role": "assistant" if role == "CHATBOT" else "user", "parts": [{"type": "text", "content": text}]}
        for role, text in texts
        if text
    ]
    chat.input = [*said, *map(_read_message, list_items(body.get("messages")))]
    if system := get_text(body, "preamble") or get_text(body, "system"):
        chat.system = [{"type": "text", "content": system}]
    chat.tools = [read_openai_tool(tool) for tool in list_items(body.get("tools"))] or None


def _read_message(raw: object) -> Message:
    content, role = get_field(raw, "content"), get_nested(raw, "role", str) or "user"
    if role == "tool":
        return {"role": role, "parts": [make_tool_call_response(content, get_nested(raw, "tool_call_id", str))]}
    parts: list[Part] = [
        read_openai_part(one) for one in ([content] if isinstance(content, str) else list_items(content))
    ]
    for one in list_items(get_field(raw, "tool_calls")):
        name, given = get_nested(one, "function.name", str) or "", get_nested(one, "function.arguments", str)
        parts.append(make_tool_call(name, given, get_nested(one, "id", str)))
    return {"role": role, "parts": parts}


class AnswerReader:
    """The reader of one answer: first what the client returns, then its body, whole or in events."""

    __slots__ = ("_claude",)
    sees_errors: Final = True

    def __init__(self) -> None:
        self._claude = EventReader()

    def __call__(self, record: Any, got: object) -> None:
        """Read the client's dict, an event of a stream, a body, or an error."""
        if isinstance(got, Exception):
            read_service_error(record, got)
        elif not isinstance(got, dict):  # the size of a body that is no JSON
            return
        elif (metadata := got.get("ResponseMetadata")) is not None:
            read_metadata(record, metadata)
            self._read_headers(record, get_nested(metadata, "HTTPHeaders", dict))
        elif (piece := get_field(got.get("chunk"), "bytes")) is not None:
            self._observe_body(record, parse_body(piece))
        else:
            self._observe_body(record, got)

    def _read_headers(self, record: object, headers: Mapping[str, object] | None) -> None:
        """Read the token counts that the headers of a whole answer have, whatever the model."""
        if isinstance(record, ModelCall):
            texts = {name: str(headers[name]) for name in _HEADERS if headers and name in headers}
            self._fill_counts(record, {name: int(text) for name, text in texts.items() if text.isdecimal()}, _HEADERS)

    def _observe_body(self, record: object, body: dict[str, object]) -> None:
        if isinstance(record, Embeddings):
            _read_embeddings(record, body)
        elif isinstance(record, Chat):
            if (read := find_answer_reader(body)) is not None:
                read(record, body)
            else:
                self._claude.observe(record, body)
            note_guardrail(record, body.get("amazon-bedrock-guardrailAction"))
        elif isinstance(record, ProviderRequest):
            record.output = body
        if (metrics := get_nested(body, "amazon-bedrock-invocationMetrics", dict)) and isinstance(record, ModelCall):
            self._fill_counts(record, metrics, _METRICS)

    def _fill_counts(self, record: Any, counts: dict[str, Any], names: tuple[str, ...]) -> None:
        """Read Bedrock's own counts, where the model's answer has told none."""
        if isinstance(record, Embeddings):
            record.input_tokens = record.input_tokens or get_count(counts, names[0])
        elif record.input_tokens is None or record.output_tokens is None:
            set_counts(record, counts, names)  # type: ignore[arg-type]  # of four names


def _read_embeddings(record: Embeddings, body: dict[str, object]) -> None:
    record.input_tokens = get_count(body, "inputTextTokenCount") or record.input_tokens
    read_provider_usage(record, body.get("usage"))
    found: Any = body.get("embedding") or body.get("embeddings")
    if isinstance(found, dict):  # by their type
        found = next(iter(found.values()), None)
    while isinstance(found, list) and found and isinstance(found[0], list):
        found = found[0]
    if isinstance(found, list) and record.dimensions is None:
        record.dimensions = len(found) or None
