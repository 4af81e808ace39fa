"""LangChain's provider packages, each with a server of its provider's API: the same answer of all of them.

Each answer reasons where its API can, says "Hi.", and asks for the weather; what it bills is as much as its API can
tell. A stream says the same.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PARIS = {"city": "Paris"}


class Provider(NamedTuple):
    """A provider's package: what it takes, the client's own hook, and what has to be recorded.

    Attributes:
        package: the package.
        make: returns the model, given the server's address without a path.
        whole: has the server answer whole.
        streamed: has the server answer in a stream.
        name: the conventions' name of the provider.
        usage: the counts, by what stands behind ``gen_ai.usage.``.
        reasons: whether the answer has reasoning.
        hook: the integration of the client below, if there is one.
    """

    package: str
    make: Callable[[str], Any]
    whole: Callable[[Any], None]
    streamed: Callable[[Any], None]
    name: str
    usage: dict[str, int]
    reasons: bool = False
    hook: str | None = None


# Anthropic: input tokens leave the cache out; writes are told by lifetime.


def _make_anthropic(url: str) -> Any:
    from langchain_anthropic import ChatAnthropic

    more: Any = {"base_url": url, "api_key": "x", "max_retries": 0}
    return ChatAnthropic(model="claude-sonnet-4-5", **more)


_CACHED = {
    "input_tokens": 300,
    "cache_read_input_tokens": 800,
    "cache_creation_input_tokens": 100,
    "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_sequence": None}
_BLOCKS: list[Any] = [
    {"type": "thinking", "thinking": "hm", "signature": "s"},
    {"type": "text", "text": "Hi."},
    {"type": "tool_use", "id": "t1", "name": "get_weather", "input": PARIS},
]
_STARTS: list[Any] = [{**_BLOCKS[0], "thinking": ""}, {**_BLOCKS[1], "text": ""}, {**_BLOCKS[2], "input": {}}]
_DELTAS: list[Any] = [
    {"type": "thinking_delta", "thinking": "hm"},
    {"type": "text_delta", "text": "Hi."},
    {"type": "input_json_delta", "partial_json": json.dumps(PARIS)},
]


def _reply_anthropic(server: Any) -> None:
    usage = {**_CACHED, "output_tokens": 50}
    server.reply({**_MESSAGE, "content": _BLOCKS, "stop_reason": "tool_use", "usage": usage})


def _stream_anthropic(server: Any) -> None:
    begun = {**_MESSAGE, "content": [], "stop_reason": None, "usage": {**_CACHED, "output_tokens": 1}}
    events: list[Any] = [{"type": "message_start", "message": begun}]
    for index, (start, delta) in enumerate(zip(_STARTS, _DELTAS, strict=True)):
        events += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": "tool_use", "stop_sequence": None}
    told = {name: tokens for name, tokens in _CACHED.items() if name != "cache_creation"}  # as the server has it
    events += [{"type": "message_delta", "delta": end, "usage": {**told, "output_tokens": 50}}]
    server.stream(*[(one["type"], one) for one in [*events, {"type": "message_stop"}]])


# Gemini: what was thought stands beside the answer.


def _make_gemini(url: str) -> Any:
    from langchain_google_genai import ChatGoogleGenerativeAI

    more: Any = {"base_url": url, "google_api_key": "x", "max_retries": 1}
    return ChatGoogleGenerativeAI(model="gemini-2.5-flash", **more)


def _answer_gemini() -> Any:
    parts = [
        {"text": "hm", "thought": True},
        {"text": "Hi."},
        {"functionCall": {"name": "get_weather", "args": PARIS}},
    ]
    usage = {"promptTokenCount": 1200, "cachedContentTokenCount": 800, "candidatesTokenCount": 20}
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {**usage, "thoughtsTokenCount": 30, "totalTokenCount": 1250},
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r-1",
    }


# Bedrock's Converse: the counts of the cache stand beside the input tokens; its streams are frames of their own.


def _make_bedrock(url: str) -> Any:
    from langchain_aws import ChatBedrockConverse

    keys: Any = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    return ChatBedrockConverse(model="anthropic.claude-sonnet-4-5-20250929-v1:0", endpoint_url=url, **keys)


_CONVERSED: Any = {
    "inputTokens": 300,
    "outputTokens": 50,
    "totalTokens": 1250,
    "cacheReadInputTokens": 800,
    "cacheWriteInputTokens": 100,
}


def _reply_bedrock(server: Any) -> None:
    said = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"text": "Hi."},
        {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": PARIS}},
    ]
    message = {"message": {"role": "assistant", "content": said}}
    server.reply({"output": message, "stopReason": "tool_use", "usage": _CONVERSED, "metrics": {"latencyMs": 1}})


def frame_event(name: str, body: Any) -> bytes:
    """Return an event as AWS frames it: lengths and their checksum, headers, payload, and the checksum of all."""
    headers = b""
    for key, value in ((":event-type", name), (":message-type", "event"), (":content-type", "application/json")):
        headers += struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    payload = json.dumps(body).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    framed = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return framed + struct.pack("!I", zlib.crc32(framed))


def _stream_bedrock(server: Any) -> None:
    tool = {"toolUse": {"toolUseId": "t1", "name": "get_weather"}}
    events: list[tuple[str, Any]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hm"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Hi."}}),
        ("contentBlockStop", {"contentBlockIndex": 1}),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": tool}),
        ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": json.dumps(PARIS)}}}),
        ("contentBlockStop", {"contentBlockIndex": 2}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": _CONVERSED, "metrics": {"latencyMs": 1}}),
    ]
    body = b"".join(frame_event(*one) for one in events)
    server.reply(body, headers={"Content-Type": "application/vnd.amazon.eventstream"})


# Ollama: lines of JSON, also where no stream was asked for.


def _make_ollama(url: str) -> Any:
    from langchain_ollama import ChatOllama

    return ChatOllama(model="qwen3", base_url=url)


def _reply_ollama(server: Any) -> None:
    head = {"model": "qwen3", "created_at": "2026-01-01T00:00:00Z"}
    call = {"function": {"name": "get_weather", "arguments": PARIS}}
    lines = [
        {**head, "message": {"role": "assistant", "content": "Hi."}, "done": False},
        {**head, "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False},
        {
            **head,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 1200,
            "eval_count": 50,
        },
    ]
    server.reply("".join(json.dumps(line) + "\n" for line in lines).encode())


# Mistral and Groq speak OpenAI's format, each with something of its own.


def _make_mistral(url: str) -> Any:
    from langchain_mistralai import ChatMistralAI

    more: Any = {"endpoint": f"{url}/v1", "api_key": "x", "max_retries": 1}
    return ChatMistralAI(model="mistral-small-latest", **more)


def _make_groq(url: str) -> Any:
    from langchain_groq import ChatGroq

    more: Any = {"base_url": url, "api_key": "x", "max_retries": 0}
    return ChatGroq(model="llama-3.3-70b-versatile", **more)


_CALL = {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps(PARIS)}}
_USAGE: Any = {"prompt_tokens": 1200, "completion_tokens": 50, "total_tokens": 1250}


def _answer_openai(model: str, usage: Any) -> Any:
    message = {"role": "assistant", "content": "Hi.", "tool_calls": [_CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def _stream_openai(model: str, end: Any) -> list[Any]:
    """Return the chunks of an answer; the last one has *end* beside its choice."""
    deltas: list[Any] = [
        {"role": "assistant", "content": "Hi."},
        {"content": "", "tool_calls": [{"index": 0, **_CALL}]},
    ]
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    last = {**head, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "tool_calls"}], **end}
    return [*chunks, last, "[DONE]"]


_GROQ = "llama-3.3-70b-versatile"
_GROQ_USAGE = {**_USAGE, "prompt_tokens_details": {"cached_tokens": 800}}
_CLAUDE_COUNTS = {
    "input_tokens": 1200,
    "output_tokens": 50,
    "cache_read.input_tokens": 800,
    "cache_write.input_tokens": 100,
}

PROVIDERS = {
    "anthropic": Provider(
        "langchain_anthropic",
        _make_anthropic,
        _reply_anthropic,
        _stream_anthropic,
        "anthropic",
        _CLAUDE_COUNTS,
        reasons=True,
        hook="anthropic",
    ),
    "gemini": Provider(
        "langchain_google_genai",
        _make_gemini,
        lambda server: server.reply(_answer_gemini()),
        lambda server: server.stream(_answer_gemini()),
        "gcp.gemini",
        {
            "input_tokens": 1200,
            "output_tokens": 50,
            "cache_read.input_tokens": 800,
            "reasoning.output_tokens": 30,
        },
        reasons=True,
        hook="google_genai",
    ),
    "bedrock": Provider(
        "langchain_aws", _make_bedrock, _reply_bedrock, _stream_bedrock, "aws.bedrock", _CLAUDE_COUNTS, reasons=True
    ),
    "ollama": Provider(
        "langchain_ollama",
        _make_ollama,
        _reply_ollama,
        _reply_ollama,
        "ollama",
        {"input_tokens": 1200, "output_tokens": 50},
    ),
    "mistral": Provider(
        "langchain_mistralai",
        _make_mistral,
        lambda server: server.reply(_answer_openai("mistral-small-latest", _USAGE)),
        lambda server: server.stream(*_stream_openai("mistral-small-latest", {"usage": _USAGE})),
        "mistral_ai",
        {"input_tokens": 1200, "output_tokens": 50},
    ),
    "groq": Provider(
        "langchain_groq",
        _make_groq,
        lambda server: server.reply(_answer_openai(_GROQ, _GROQ_USAGE)),
        lambda server: server.stream(*_stream_openai(_GROQ, {"x_groq": {"id": "r-1", "usage": _GROQ_USAGE}})),
        "groq",
        {"input_tokens": 1200, "output_tokens": 50, "cache_read.input_tokens": 800},
    ),
}
