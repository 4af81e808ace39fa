"""The OTLP sink and its environment variables.

It imports little; the client is imported when there is something to send.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import TracerProvider

from .types import Packed, Refused

if TYPE_CHECKING:
    from .otlp_send import Sender

SIGNAL: Final = "/v1/traces"


class OtlpSink:
    """Sends spans by OTLP.

    Args:
        endpoint: as in ``OTEL_EXPORTER_OTLP_ENDPOINT``: for HTTP the receiver's base address, to which ``/v1/traces``
            is added unless it ends so. None: from the environment.
        protocol: ``http/protobuf`` or ``grpc``. None: from the environment, else ``http/protobuf``.

    Headers, certificates, compression and timeouts come from the ``OTEL_EXPORTER_OTLP_*`` variables. The stock
    exporters are not used, as they retry by themselves for ten seconds and more and do not distinguish an outage from a
    refusal.
    """

    exit_grace = 3.5
    local = False
    at_once = 1

    def __init__(self, endpoint: str | None, protocol: str | None) -> None:
        self.protocol = protocol or variable("PROTOCOL") or "http/protobuf"
        self.endpoint = endpoint or _default_endpoint(self.protocol)
        self._named = endpoint
        self._sender: Sender | None = None

    def prepare(self) -> None:
        from . import otlp_send

        if self.protocol == "grpc":
            otlp_send.import_grpc()

    def send(self, parcels: Sequence[Packed]) -> list[Refused]:
        if self._sender is None:
            from .otlp_send import Sender

            self._sender = Sender(self.endpoint, self._named, self.protocol)
        return self._sender.send(parcels)

    def close(self) -> None:
        self._sender = None


def variable(name: str) -> str | None:
    """Return an OTLP variable of OpenTelemetry: the one for traces, else the one for all signals."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")


def _default_endpoint(protocol: str) -> str:
    if exact := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return exact
    if protocol == "grpc":
        return os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4317"
    return (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318").rstrip("/") + SIGNAL


def exports_otlp(provider: TracerProvider) -> bool:
    """Return True if *provider* already sends its spans by OTLP."""
    processors = getattr(provider._active_span_processor, "_span_processors", ())
    exporters = (getattr(processor, "span_exporter", None) for processor in processors)
    return any("OTLP" in type(exporter).__name__ for exporter in exporters)
