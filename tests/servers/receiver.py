"""A receiver that fails as it is told: MLflow's tracking server and an OTLP receiver in one."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

EXPERIMENT = b'{"experiment": {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active"}}'


class Receiver:
    """``mode`` is "ok", "hang", "slow" or a status, with ``retry_after``; ``poison`` is refused with ``refusal``.

    A body of more than ``most_bytes`` as it is sent gets 413, as a proxy answers: if ``hangs_up``, the connection is
    closed without an answer, with the body unread. ``seconds_per_kib`` is how long spans take it.
    """

    def __init__(self, port: int = 0) -> None:
        self.mode: str | int = "ok"
        self.retry_after: str | None = None
        self.poison, self.refusal = "", 400
        self.most_bytes, self.hangs_up = sys.maxsize, False
        self.seconds_per_kib = 0.0
        self.too_large: list[int] = []  # bytes of the bodies that were
        self.reads_gzip = True
        self.gzipped = 0  # requests
        self.otlp: Counter[str] = Counter()  # how often each span has arrived, by name
        self.mlflow: Counter[str] = Counter()
        self.bodies: list[bytes] = []
        self.keeps_bodies = True
        self.content_bytes = 0  # of all requests, as they are without gzip
        self.requests: list[float] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or the client waits for an acknowledgement

            def do_GET(self) -> None:
                known = 404 if "/traces" in self.path else 200
                self.reply(outer.mode if isinstance(outer.mode, int) else known, EXPERIMENT)

            def do_POST(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                if size > outer.most_bytes:
                    outer.too_large.append(size)
                    if outer.hangs_up:
                        self.close_connection = True
                        return
                body = self.rfile.read(size)
                if size > outer.most_bytes:
                    self.reply(413, b"<html>413 Request Entity Too Large</html>")
                    return
                if self.headers.get("Content-Encoding") == "gzip":
                    outer.gzipped += 1
                    body = gzip.decompress(body) if outer.reads_gzip else body
                outer.content_bytes += len(body)
                outer.bodies.append(body if outer.keeps_bodies else b"")
                outer.requests.append(time.monotonic())
                self.reply(*outer._judge(self.path, dict(self.headers.items()), body))

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if outer.retry_after and status == 429:
                    self.send_header("Retry-After", outer.retry_after)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None: ...

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...  # clients that are killed hang up

        self._server = Quiet(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def _judge(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self.mode == "hang":
            time.sleep(30)
        if self.mode == "slow":
            time.sleep(0.5)
        if isinstance(self.mode, int):
            return self.mode, b""
        time.sleep(self.seconds_per_kib * len(body) / 1024)
        if path != "/v1/traces":
            return 200, b"{}"
        try:
            sent = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            return 400, b"Invalid OpenTelemetry protobuf format"
        spans = [span for of in sent.resource_spans for scope in of.scope_spans for span in scope.spans]
        # a root that says no more than the previews of its trace; the root itself follows
        names = [span.name for span in spans if all(one.key != "mlspan.preview" for one in span.attributes)]
        if self.poison and self.poison in names:
            return self.refusal, b"poison"
        taken = self.mlflow if any(key.lower().startswith("x-mlflow") for key in headers) else self.otlp
        taken.update(names)
        return 200, b""

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def once(count: int, prefix: str = "execute_tool ") -> dict[str, int]:
    """What a receiver has taken if each of *count* spans has arrived once."""
    return {f"{prefix}{number}": 1 for number in range(count)}
