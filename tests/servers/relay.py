"""A relay on a free loopback port: TLS in front of a server that has none, or a proxy; what came is remembered."""

from __future__ import annotations

import socket
import ssl
import threading


class Relay:
    """Passes connections on to *host*:*port*, as bytes.

    *tls*: what the client has to speak here. As a proxy, it takes ``CONNECT`` and absolute addresses, and goes to
    *port* whatever they say. *came* holds all that clients have sent, on so many *connections*.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to, self._tls, self.came, self.connections = port, tls, bytearray(), 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # stopped
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            if self._tls is not None:
                near = self._tls.wrap_socket(near, server_side=True)
            with near, socket.create_connection(("127.0.0.1", self._to)) as far:
                back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
                back.start()
                self._forward(near, far)
                back.join(60)
        except OSError:  # a client that will not have our certificate, or has none
            near.close()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        while data := near.recv(65536):
            self.came += data
            if data.startswith(b"CONNECT "):
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                continue
            method, sep, rest = data.partition(b" http://")
            if sep and method.isalpha():
                data = method + b" /" + rest.partition(b"/")[2]
            far.sendall(data)
        far.shutdown(socket.SHUT_WR)

    @staticmethod
    def _copy(far: socket.socket, near: socket.socket) -> None:
        try:
            while data := far.recv(65536):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def stop(self) -> None:
        self._listener.close()
