"""The local server that clients ask in the place of their provider: it hands a request on, or an answer back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from ..tracing.otel.compat import suppress_on_this_thread

_POLL: Final = 0.02  # seconds until the server sees that it is to stop
_CLIENT_TIMEOUT: Final = 120.0  # seconds that a connection may be silent


@dataclass(frozen=True)
class IncomingRequest:
    """A request as it arrives: *path* begins with the name of the service."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def get_header(self, name: str) -> str:
        """Return the value of a header; empty if there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True)
class OutgoingAnswer:
    """An answer to send. *pieces* raises ``ConnectionError`` where the stream is cut off.

    *is_stream* tells whether each piece is to be sent as one, as soon as it is there.
    """

    status: int
    headers: dict[str, str]
    pieces: Iterator[bytes]
    is_stream: bool


Answer = Callable[[IncomingRequest], OutgoingAnswer]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _CLIENT_TIMEOUT
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def handle_request(self) -> None:
        """Answer one request."""
        request = IncomingRequest(self.command, self.path, tuple(self.headers.items()), self._receive_body())
        answer = self.server.answer(request)
        try:
            self._send_answer(answer)
        except OSError:  # the client has hung up or waits for nothing, or the stream is one that was cut off
            self.close_connection = True
            with suppress(ConnectionError):
                for _ in answer.pieces:  # what nobody reads any more is recorded as well
                    pass

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_request  # noqa: N815  # the library's names

    def _send_answer(self, answer: OutgoingAnswer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not answer.is_stream:
            data = b"".join(answer.pieces)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else data)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            if piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _receive_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the requests of a connection, of which no instrumentation records anything."""
        suppress_on_this_thread()
        self._open.add(request)
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing of a client that hangs up."""

    def close_connections(self) -> None:
        """Hang up on clients that keep their connections."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class AnswerServer:
    """A server on this machine, from its making until it is stopped.

    Args:
        answer: is called for each request, on the thread of its connection.
    """

    def __init__(self, answer: Answer) -> None:
        self._server = _Server(answer)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL,), name="mlspan-answers", daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop; connections are closed."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join(10)
