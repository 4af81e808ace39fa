"""Event streams as AWS encodes them: ``application/vnd.amazon.eventstream``, with lengths and two checksums."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Final

from .scripted import Scripted

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"


def encode_event(event: dict[str, Any]) -> bytes:
    """Return one event, ``{its type: its fields}``, as a message. A type ending in ``Exception`` fails the stream."""
    ((kind, fields),) = event.items()
    is_error = kind.endswith("Exception")
    headers = {
        (":exception-type" if is_error else ":event-type"): kind,
        ":content-type": "application/json",
        ":message-type": "exception" if is_error else "event",
    }
    payload = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return encode_message(headers, payload)


def encode_message(headers: dict[str, str], payload: bytes) -> bytes:
    """Return a message: prelude, checksum of it, headers, payload, checksum of all."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + packed + payload
    return message + struct.pack("!I", zlib.crc32(message))


def script_chat(server: Scripted) -> dict[str, str]:
    """Have *server* call a tool and then stream a text, as Bedrock does; return the variables that lead boto3 to it."""
    call = {"toolUse": {"toolUseId": "call_1", "name": "get_weather", "input": {"city": "Paris"}}}
    message = {"role": "assistant", "content": [{"text": "Let me look."}, call]}
    told = {"usage": {"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}, "metrics": {"latencyMs": 9}}
    server.reply({"output": {"message": message}, "stopReason": "tool_use", **told})
    events: list[dict[str, Any]] = [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "It is sunny."}}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": told},
    ]
    server.stream_bytes(*map(encode_event, events), content_type=CONTENT_TYPE)
    return {
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.base_url.removesuffix("/v1"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
