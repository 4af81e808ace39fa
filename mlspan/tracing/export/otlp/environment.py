"""OpenTelemetry's variables for OTLP, and the question whether an application's provider exports by OTLP itself."""

from __future__ import annotations

import os
from typing import Final

from opentelemetry.sdk.trace import TracerProvider

from ...otel.compat import list_span_processors

TRACES_PATH: Final = "/v1/traces"


def read_variable(name: str) -> str | None:
    """Return an OTLP variable of OpenTelemetry: the one for traces, else the one for all signals."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")


def _default_endpoint(protocol: str) -> str:
    if exact := os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return exact
    if protocol == "grpc":
        return os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4317"
    return (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or "http://localhost:4318").rstrip("/") + TRACES_PATH


def exports_otlp(provider: TracerProvider) -> bool:
    """Return True if *provider* already sends its spans by OTLP."""
    exporters = (getattr(processor, "span_exporter", None) for processor in list_span_processors(provider))
    return any("OTLP" in type(exporter).__name__ for exporter in exporters)
