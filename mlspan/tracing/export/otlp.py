"""The same spans to any OTLP receiver, by OpenTelemetry's own exporters on a thread of ours."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from ..context import Origin
from .parcel import Away, Parcel, Refused

_TRIES: Final = 6  # of one batch, each with the exporter's own retries, before it is given up


class Singly:
    """Stands where Assembly does: every span leaves as soon as it has ended, GenAI or not."""

    def started(self, span: ReadableSpan, origin: Origin) -> None: ...

    def ended(self, span: ReadableSpan) -> Parcel | None:
        return Parcel(Origin(), (span,), 0, whole=False)

    def settled(self) -> Iterator[Parcel]:
        return iter(())

    overdue = rest = settled


class OtlpSink:
    """Sends spans by OTLP.

    Args:
        endpoint: as ``OTEL_EXPORTER_OTLP_ENDPOINT`` has it: for HTTP the receiver's base address, to which
            ``/v1/traces`` is added unless it is there. None: what the environment says.
        protocol: ``http/protobuf`` or ``grpc``; None: what the environment says, else ``http/protobuf``.

    Headers, certificates, compression and timeouts are those of the ``OTEL_EXPORTER_OTLP_*`` variables.
    """

    exit_grace = 3.5

    def __init__(self, endpoint: str | None, protocol: str | None) -> None:
        self._endpoint = endpoint
        environ = os.environ
        self._protocol = (
            protocol or environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        )
        self._opened: Any = None
        self._failures = 0

    @property
    def _exporter(self) -> Any:
        if self._opened is None:
            self._opened = _grpc(self._endpoint) if self._protocol == "grpc" else _http(self._endpoint)
        return self._opened

    def send(self, parcels: Sequence[Parcel]) -> list[Refused]:
        from opentelemetry.sdk.trace.export import SpanExportResult

        spans = [span for parcel in parcels for span in parcel.spans]
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            self._failures = 0
            return []
        self._failures += 1
        where = self._endpoint or "OTEL_EXPORTER_OTLP_ENDPOINT"
        if self._failures < _TRIES:
            msg = f"the OTLP receiver ({where}) takes no spans"
            raise Away(msg)
        self._failures = 0
        return [Refused(parcel, f"spans that the OTLP receiver ({where}) has not taken are lost") for parcel in parcels]

    def close(self) -> None:
        if self._opened is not None:
            self._opened.shutdown()


def _http(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    if endpoint is not None and not endpoint.rstrip("/").endswith("/v1/traces"):
        endpoint = endpoint.rstrip("/") + "/v1/traces"
    _quieten(trace_exporter.__name__)
    return trace_exporter.OTLPSpanExporter(endpoint=endpoint)


def _grpc(endpoint: str | None) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc import exporter, trace_exporter

    _quieten(exporter.__name__)
    return trace_exporter.OTLPSpanExporter(endpoint=endpoint)


def _quieten(name: str) -> None:
    """The exporter logs every failed try; of ours, the pipeline says it once. Other people's are left alone."""
    ours = threading.current_thread()
    logging.getLogger(name).addFilter(lambda record: record.thread != ours.ident)


def exports_otlp(provider: TracerProvider) -> bool:
    """Whether *provider* sends its spans by OTLP already."""
    processors = getattr(provider._active_span_processor, "_span_processors", ())
    exporters = (getattr(processor, "span_exporter", None) for processor in processors)
    return any("OTLP" in type(exporter).__name__ for exporter in exporters)
