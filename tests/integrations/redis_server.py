"""A Redis that answers ``FT.SEARCH`` with what a test has set: the real one's module is not to be had everywhere."""

from __future__ import annotations

import socketserver
import threading
import time
from typing import Any


class RedisServer:
    """Speaks the second protocol; *search* is the answer of a search, an exception's text an error."""

    def __init__(self) -> None:
        self.search: Any = [0]
        self.delay = 0.0
        self.commands: list[list[bytes]] = []
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while command := outer._read_command(self.rfile):
                    outer.commands.append(command)
                    try:
                        self.wfile.write(outer._answer(command))
                    except OSError:
                        return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None: ...  # clients that hang up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @staticmethod
    def _read_command(stream: Any) -> list[bytes]:
        head = stream.readline()
        parts = []
        for _ in range(int(head[1:] or b"0")):
            length = int(stream.readline()[1:])
            parts.append(stream.read(length + 2)[:length])
        return parts

    def _answer(self, command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name == b"FT.SEARCH":
            time.sleep(self.delay)
            return encode(self.search)
        if name == b"HELLO":
            return b"-ERR unknown command 'HELLO'\r\n"
        if name == b"MODULE":
            return encode([["name", name, "ver", 99_999, "path", "", "args", []] for name in ("search", "ReJSON")])
        if name in {b"UNLINK", b"DEL", b"HSET"}:
            return b":%d\r\n" % (len(command) - 1 if name != b"HSET" else 2)
        return b"+OK\r\n"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def encode(value: Any) -> bytes:
    """Return *value* in the second protocol."""
    if isinstance(value, Exception):
        return b"-%s\r\n" % str(value).encode()
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(encode, value))
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)
