"""A receiver of OTLP over gRPC."""

from __future__ import annotations

from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class GrpcReceiver(service.TraceServiceServicer):
    """Keeps the bodies of all requests, as ``Receiver`` does."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(2))
        service.add_TraceServiceServicer_to_server(self, self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        self.bodies.append(request.SerializeToString())
        return ExportTraceServiceResponse()

    def stop(self) -> None:
        self._server.stop(5).wait(10)
