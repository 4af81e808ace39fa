"""A server that answers what a test has told it to: for what no well-behaved server ever sends."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Event = dict[str, Any] | str | tuple[str, Any]  # a chunk, the text of one, or one with its name


class Scripted:
    """Answers requests in the order in which ``reply`` and ``stream`` were called; the last answer repeats."""

    def __init__(self) -> None:
        self._answers: deque[Any] = deque()
        self.requests: list[tuple[dict[str, str], Any]] = []  # headers in lower case, and the body
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.do_POST()

            def do_PUT(self) -> None:
                self.do_POST()

            def do_DELETE(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                is_json = body and self.headers.get("Content-Type") == "application/json"
                with suppress(json.JSONDecodeError):  # lines of JSON are sent under that name as well
                    body = json.loads(body) if is_json else body
                outer.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                answer = outer._answers.popleft() if len(outer._answers) > 1 else outer._answers[0]
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args: Any) -> None: ...

            def date_time_string(self, timestamp: float | None = None) -> str:
                return "Sun, 29 Nov 2026 12:00:00 GMT"  # tests compare two answers, also over the change of a second

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...  # clients that hang up are what some tests are about

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def reply(
        self,
        body: Any,
        *,
        status: int = 200,
        delay: float = 0,
        headers: dict[str, str] | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """One whole answer: *body* as JSON, *delay* seconds after the request and once *before* has returned."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            time.sleep(delay)
            before()
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            handler.send_response(status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
            for name, value in sent.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)

        self._answers.append(answer)

    def stream(self, *events: Event, delay: float = 0, drop: bool = False) -> None:
        """An event stream; *delay* seconds before each event. *drop* cuts the connection instead of ending it."""
        pieces = []
        for event in events:
            name, body = event if isinstance(event, tuple) else ("", event)
            text = body if isinstance(body, str) else json.dumps(body)
            pieces.append((f"event: {name}\n" * bool(name) + f"data: {text}\n\n").encode())
        self.stream_bytes(*pieces, content_type="text/event-stream", delay=delay, drop=drop)

    def stream_bytes(self, *pieces: bytes, content_type: str, delay: float = 0, drop: bool = False) -> None:
        """A body in pieces, likewise."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Type", content_type)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for data in pieces:
                time.sleep(delay)
                handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                handler.wfile.flush()
            if not drop:
                handler.wfile.write(b"0\r\n\r\n")
            handler.close_connection = drop

        self._answers.append(answer)

    def clear(self) -> None:
        self._answers.clear()
        self.requests.clear()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
