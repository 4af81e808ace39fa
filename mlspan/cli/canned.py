"""A few answers in the shape of OpenAI's API, for who has neither a key nor a server: enough for ``mlspan demo``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

_ANSWER: Final = "It is sunny in Paris, 21 degrees."
_CALL: Final = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}


class _Handler(BaseHTTPRequestHandler):
    """Asks for the weather first; tells it once it was looked up."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        looked_up = any(message.get("role") == "tool" for message in asked.get("messages", ()))
        time.sleep(0.15)  # as if it thought
        if asked.get("stream"):
            self._send("text/event-stream", b"".join(b"data: " + part + b"\n\n" for part in _chunks(asked["model"])))
        else:
            message = {"content": _ANSWER} if looked_up else {"content": None, "tool_calls": [_CALL]}
            reason = "stop" if looked_up else "tool_calls"
            choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
            self._send("application/json", _body(asked["model"], "chat.completion", [choice], usage=_usage(86, 17)))

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def _chunks(model: str) -> Iterator[bytes]:
    for word in _ANSWER.split():
        choice = {"index": 0, "delta": {"content": word + " "}, "finish_reason": None}
        yield _body(model, "chat.completion.chunk", [choice])
    yield _body(model, "chat.completion.chunk", [{"index": 0, "delta": {}, "finish_reason": "stop"}])
    yield _body(model, "chat.completion.chunk", [], usage=_usage(121, 11))
    yield b"[DONE]"


def _body(model: str, kind: str, choices: list[Any], **more: Any) -> bytes:
    return json.dumps(
        {"id": "canned-1", "object": kind, "created": 0, "model": model, "choices": choices, **more}
    ).encode()


def _usage(given: int, taken: int) -> dict[str, int]:
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}


@contextmanager
def server() -> Iterator[str]:
    """The base URL of a server on a free port, in this process."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/v1"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
