"""A local server with canned answers in the format of OpenAI's API, for running ``mlspan demo`` without a key."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_ANSWER: Final = "It is sunny in Paris, 21 degrees."
_TOOL_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


class _CannedAnswerHandler(BaseHTTPRequestHandler):
    """Request handler that first calls the weather tool, and answers once the tool's result is among the messages."""

    def do_POST(self) -> None:
        """Answer a chat completion request, as a stream if it asks for one."""
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        looked_up = any(message.get("role") == "tool" for message in request.get("messages", ()))
        time.sleep(0.15)  # so that the span of the call has a visible duration
        if request.get("stream"):
            self._send_response(
                "text/event-stream", b"".join(b"data: " + part + b"\n\n" for part in _stream_chunks(request["model"]))
            )
        else:
            message = {"content": _ANSWER} if looked_up else {"content": None, "tool_calls": [_TOOL_CALL]}
            reason = "stop" if looked_up else "tool_calls"
            choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
            self._send_response(
                "application/json",
                _encode_body(request["model"], "chat.completion", [choice], usage=_make_usage(86, 17)),
            )

    def _send_response(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def _stream_chunks(model: str) -> Iterator[bytes]:
    """Yield the answer as the data fields of server-sent events, one word each, then usage and ``[DONE]``."""
    for word in _ANSWER.split():
        choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        yield _encode_body(model, "chat.completion.chunk", [choice])
    yield _encode_body(model, "chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield _encode_body(model, "chat.completion.chunk", [], usage=_make_usage(121, 11))
    yield b"[DONE]"


def _encode_body(model: str, kind: str, choices: list[object], **more: object) -> bytes:
    """Return a response body, or one chunk of it, as JSON."""
    return json.dumps(
        {"id": "canned-1", "object": kind, "created": 0, "model": model, "choices": choices, **more}
    ).encode()


def _make_usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    """Return token counts in the format of OpenAI."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


@contextmanager
def serve_canned_answers() -> Iterator[str]:
    """Serve the canned answers on a free port, from a thread of this process, and yield the base URL."""
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), _CannedAnswerHandler)
    thread = threading.Thread(target=http_server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http_server.server_port}/v1"
    finally:
        http_server.shutdown()
        thread.join()
        http_server.server_close()
