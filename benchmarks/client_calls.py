"""How each client beside OpenAI's is opened and asked. The network of each is a transport that answers at once."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

ASKED: Any = [{"role": "user", "content": "What is the weather?"}]
TEXT, WORD, ADDRESS = "Sunny, 21 degrees.", "word ", "http://127.0.0.1"
Call = Callable[[], object]
Calls = tuple[Call, Call | None]  # a chat, and a stream that is read to its end


def _transport(http: Any, whole: Any, stream: bytes, kind: str = "text/event-stream") -> Any:
    """A transport that answers with *whole* as JSON, or with *stream* where the request asks for one."""
    body = json.dumps(whole).encode()

    def answer(request: Any) -> Any:
        if b'"stream":true' in request.content.replace(b" ", b"") or "stream" in str(request.url).lower():
            return http.Response(200, headers={"Content-Type": kind}, content=stream)
        return http.Response(200, headers={"Content-Type": "application/json"}, content=body)

    return http.MockTransport(answer)


def _events(*events: Any, named: bool = False, end: str = "") -> bytes:
    """Events of a stream as a server sends them, each with its type as its name if *named*."""
    lines = [f"event: {event['type']}\n" if named else "" for event in events]
    sent = [f"{line}data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True)]
    return "".join([*sent, end]).encode()


def _read(stream: Any) -> None:
    for _ in stream:
        pass


# OpenAI's format, which half of them speak.
_HEAD = {"id": "c-1", "created": 1, "model": "m-1"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
_MESSAGE = {"role": "assistant", "content": TEXT}
_WHOLE = {
    **_HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "finish_reason": "stop", "message": _MESSAGE}],
    "usage": _USAGE,
}


def _openai_chunks(chunks: int) -> bytes:
    def chunk(delta: Any, reason: str | None = None, **more: Any) -> Any:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **more}

    pieces = [chunk({"role": "assistant", "content": ""})] + [
        chunk({"content": f"word{number} "})  # of equal ones LiteLLM says that the model is stuck
        for number in range(chunks - 1)
    ]
    return _events(*pieces, chunk({}, "stop", usage=_USAGE), end="data: [DONE]\n\n")


def open_openai(chunks: int) -> Calls:
    """OpenAI's, asked as the others are. ``cases.py`` compares it with more peers."""
    import httpx2 as http
    from openai import OpenAI

    transport = _transport(http, _WHOLE, _openai_chunks(chunks))
    client = OpenAI(base_url=f"{ADDRESS}/v1", api_key="x", http_client=http.Client(transport=transport))
    asked: Any = {"model": "m", "messages": ASKED}
    completions = client.chat.completions
    return lambda: completions.create(**asked), lambda: _read(completions.create(**asked, stream=True))


def open_anthropic(chunks: int) -> Calls:
    import httpx2 as http
    from anthropic import Anthropic

    usage = {"input_tokens": 12, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": []}
    whole = {**head, "content": [{"type": "text", "text": TEXT}], "stop_reason": "end_turn", "usage": usage}
    piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}}
    events = [
        {"type": "message_start", "message": {**head, "usage": {**usage, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[piece] * chunks,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    transport = _transport(http, whole, _events(*events, named=True))
    client = Anthropic(base_url=ADDRESS, api_key="x", http_client=http.Client(transport=transport))
    asked: Any = {"model": "m", "max_tokens": 99, "messages": ASKED}
    return lambda: client.messages.create(**asked), lambda: _read(client.messages.create(**asked, stream=True))


def open_google_genai(chunks: int) -> Calls:
    import httpx2 as http
    from google import genai

    def answer(text: str, **more: Any) -> Any:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
        usage = {"promptTokenCount": 12, "candidatesTokenCount": 5, "totalTokenCount": 17}
        return {"candidates": [candidate], "modelVersion": "m-1", "responseId": "r-1", "usageMetadata": usage}

    last = answer(TEXT, finishReason="STOP")
    transport = _transport(http, last, _events(*[answer(WORD)] * (chunks - 1), last))
    options = genai.types.HttpOptions(base_url=ADDRESS, httpx_client=http.Client(transport=transport))
    client = genai.Client(api_key="x", http_options=options)
    asked: Any = {"model": "m", "contents": "What is the weather?"}
    models = client.models
    return lambda: models.generate_content(**asked), lambda: _read(models.generate_content_stream(**asked))


def open_bedrock(chunks: int) -> Calls:
    """Converse, by boto3: a handler of ``before-send`` answers."""
    import botocore.session
    from botocore.awsrequest import AWSResponse

    told = {"usage": {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}, "metrics": {"latencyMs": 9}}
    message = {"message": {"role": "assistant", "content": [{"text": TEXT}]}}
    whole = json.dumps({"output": message, "stopReason": "end_turn", **told}).encode()
    events: list[Any] = [
        {"messageStart": {"role": "assistant"}},
        *[{"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": WORD}}}] * chunks,
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": told},
    ]
    stream = b"".join(map(_encode_aws_event, events))

    def answer(request: Any, **_: Any) -> Any:
        streams = request.url.endswith("-stream")
        kind = "application/vnd.amazon.eventstream" if streams else "application/json"
        return AWSResponse(request.url, 200, {"Content-Type": kind}, _RawBody(stream if streams else whole))

    keys = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = botocore.session.Session().create_client("bedrock-runtime", **keys, endpoint_url=ADDRESS)
    client.meta.events.register("before-send.bedrock-runtime", answer)
    asked: Any = {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "What is the weather?"}]}]}
    return lambda: client.converse(**asked), lambda: _read(client.converse_stream(**asked)["stream"])


class _RawBody:
    """The part of urllib3's response that botocore reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body

    def close(self) -> None:
        """Nothing is open."""


def _encode_aws_event(event: Any) -> bytes:
    """One event, ``{its type: its fields}``, as AWS encodes it: lengths, checksum, headers, payload, checksum."""
    import struct
    import zlib

    ((kind, fields),) = event.items()
    named = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    payload = json.dumps(fields).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def open_litellm(chunks: int) -> Calls:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network for its prices
    import httpx2 as http
    import litellm
    import openai
    from litellm.litellm_core_utils.thread_pool_executor import executor

    # LiteLLM logs each call in threads, whose work would fall into the measurement of whatever comes next.
    executor.submit = lambda *_, **__: None
    transport = _transport(http, _WHOLE, _openai_chunks(chunks))
    client = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="x", http_client=http.Client(transport=transport))
    asked: Any = {"model": "openai/m", "messages": ASKED, "client": client, "api_key": "x"}
    return lambda: litellm.completion(**asked), lambda: _read(litellm.completion(**asked, stream=True))


def open_mistralai(chunks: int) -> Calls:
    import httpx2 as http
    from mistralai.client import Mistral

    transport = _transport(http, _WHOLE, _openai_chunks(chunks))
    client = Mistral(api_key="x", server_url=ADDRESS, client=http.Client(transport=transport))
    asked: Any = {"model": "m", "messages": ASKED}
    return lambda: client.chat.complete(**asked), lambda: _read(client.chat.stream(**asked))


def open_groq(chunks: int) -> Calls:
    import httpx as http
    from groq import Groq

    transport = _transport(http, _WHOLE, _openai_chunks(chunks))
    client = Groq(base_url=ADDRESS, api_key="x", http_client=http.Client(transport=transport))
    asked: Any = {"model": "m", "messages": ASKED}
    completions = client.chat.completions
    return lambda: completions.create(**asked), lambda: _read(completions.create(**asked, stream=True))


def open_cohere(chunks: int) -> Calls:
    import httpx as http
    from cohere import ClientV2

    usage = {"billed_units": {"input_tokens": 12, "output_tokens": 5}, "tokens": {"input_tokens": 12}}
    said = {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}
    whole = {"id": "c-1", "finish_reason": "COMPLETE", "message": said, "usage": usage}
    start = {"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant"}}}
    piece = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": WORD}}}}
    end = {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}}
    transport = _transport(http, whole, _events(start, *[piece] * (chunks - 1), end))
    client = ClientV2(api_key="x", base_url=ADDRESS, httpx_client=http.Client(transport=transport))
    asked: Any = {"model": "m", "messages": ASKED}
    return lambda: client.chat(**asked), lambda: _read(client.chat_stream(**asked))


def open_ollama(chunks: int) -> Calls:
    import httpx
    from ollama import Client as Ollama

    def piece(text: str, **more: Any) -> Any:
        message = {"role": "assistant", "content": text}
        return {"model": "m", "created_at": "2026-01-01T00:00:00Z", "done": False, "message": message, **more}

    told = {"done": True, "done_reason": "stop", "prompt_eval_count": 12, "eval_count": 5}
    lines = [piece(WORD)] * (chunks - 1) + [piece("", **told)]
    stream = b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    client = Ollama(ADDRESS, transport=_transport(httpx, piece(TEXT, **told), stream, "application/x-ndjson"))
    asked: Any = {"model": "m", "messages": ASKED}
    return lambda: client.chat(**asked), lambda: _read(client.chat(**asked, stream=True))


def open_qdrant_client(_: int) -> Calls:
    """A search in memory; there is no stream."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    space = models.VectorParams(size=3, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config=space)
    near = [0.7, 0.2, 0.1]
    points = [models.PointStruct(id=id, vector=near, payload={"text": TEXT}) for id in (1, 2)]
    client.upsert("docs", points)
    return lambda: client.query_points("docs", query=near, limit=2), None


def open_mcp(_: int) -> Calls:
    """A tool of a server in this process: a span of the client and one of the server."""
    from mcp.client import Client as Session
    from mcp.server.mcpserver import MCPServer

    server, loop = MCPServer("weather"), asyncio.new_event_loop()

    @server.tool()
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"Sunny in {city}."

    session = Session(server)
    loop.run_until_complete(session.__aenter__())
    return lambda: loop.run_until_complete(session.call_tool("weather", {"city": "Oslo"})), None


OPENERS: dict[str, Callable[[int], Calls]] = {
    "openai": open_openai,
    "anthropic": open_anthropic,
    "google_genai": open_google_genai,
    "bedrock": open_bedrock,
    "litellm": open_litellm,
    "mistralai": open_mistralai,
    "groq": open_groq,
    "cohere": open_cohere,
    "ollama": open_ollama,
    "mcp": open_mcp,
    "qdrant_client": open_qdrant_client,
}
