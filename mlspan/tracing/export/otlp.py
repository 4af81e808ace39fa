"""The same spans to any OTLP receiver, by OpenTelemetry's own exporters."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider


def otlp_processor(endpoint: str | None, protocol: str | None) -> SpanProcessor:
    """A batching processor that sends spans by OTLP.

    Args:
        endpoint: as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it: for HTTP the receiver's base address, to which
            ``/v1/traces`` is added unless it is there. None: what the environment says.
        protocol: ``http/protobuf`` or ``grpc``; None: what the environment says, else ``http/protobuf``.

    Headers, certificates, compression and timeouts are those of the ``OTEL_EXPORTER_OTLP_*`` variables.
    """
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    environ = os.environ
    protocol = (
        protocol or environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    )
    return BatchSpanProcessor(_grpc(endpoint) if protocol == "grpc" else _http(endpoint), schedule_delay_millis=1000)


def _http(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if endpoint is not None and not endpoint.rstrip("/").endswith("/v1/traces"):
        endpoint = endpoint.rstrip("/") + "/v1/traces"
    return OTLPSpanExporter(endpoint=endpoint)


def _grpc(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint)


def exports_otlp(provider: TracerProvider) -> bool:
    """Whether *provider* sends its spans by OTLP already."""
    processors = getattr(provider._active_span_processor, "_span_processors", ())  # no public way
    exporters = (getattr(processor, "span_exporter", None) for processor in processors)
    return any("OTLP" in type(exporter).__name__ for exporter in exporters)
