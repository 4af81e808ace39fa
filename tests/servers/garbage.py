"""A server that answers what no HTTP client hopes for, as bytes; what it has been sent is thrown away."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat

_OK = b"HTTP/1.1 200 OK\r\n"
_JSON = b"Content-Type: application/json\r\n"
_NULLS = (
    b'{"experiment": null, "experiment_id": null, "run": [], "trace": 5, "partialSuccess": {"rejectedSpans": "%s"}}'
)


def _whole(body: bytes, *head: bytes) -> bytes:
    return _OK + b"".join(head) + b"Content-Length: %d\r\n\r\n" % len(body) + body


# What is sent, in parts, by the kind of garbage. Parts without end come one after the other until the client hangs up.
ANSWERS: dict[str, Callable[[], Iterable[bytes]]] = {
    "no HTTP": lambda: [b"\x00\xff\x16\x03 garbage\r\n\r\n"],
    "hangs up": lambda: [b""],
    "half of it": lambda: [_OK + b"Content-Length: 1000\r\n\r\n{}"],
    "another encoding": lambda: [_whole(b"not gzip", b"Content-Encoding: gzip\r\n")],
    "other objects": lambda: [_whole(_NULLS % (b"9" * 5000), _JSON)],
    "a long header": lambda: [_OK + b"X: " + b"x" * 100_000 + b"\r\n\r\n"],
    "odd status": lambda: [b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"],
    "to itself": lambda: [b"HTTP/1.1 307 There\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"],
    "endless": lambda: chain([_OK + b"\r\n"], repeat(b"x" * 65536)),
    "events": lambda: chain([_OK + b"Content-Type: text/event-stream\r\n\r\n"], repeat(b": still here\n\n")),
}


class GarbageServer:
    """Gives the answer called *kind* to every connection. *sent* counts the bytes of answers."""

    def __init__(self, kind: str) -> None:
        self.sent = 0
        self._answer = ANSWERS[kind]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # stopped
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            near.settimeout(10)
            near.recv(65536)
            for part in self._answer():
                near.sendall(part)
                self.sent += len(part)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept of the other thread
        self._listener.close()
        self._thread.join(10)


@contextlib.contextmanager
def garbage(kind: str) -> Iterator[GarbageServer]:
    server = GarbageServer(kind)
    try:
        yield server
    finally:
        server.stop()
