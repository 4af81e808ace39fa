"""OpenTelemetry's variables for OTLP, and the question whether an application's provider exports by OTLP itself."""

from __future__ import annotations

import os
from collections import deque
from typing import Final

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

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


_MAX_WRAPPERS: Final = 100  # processors and exporters that are looked through


def exports_otlp(provider: object) -> bool:
    """Return True if *provider* already sends its spans by OTLP, by processors inside of others too."""
    waiting: deque[object] = deque(list_span_processors(provider))
    for _ in range(_MAX_WRAPPERS):
        if not waiting:
            return False
        found = waiting.popleft()
        if "OTLP" in type(found).__name__:
            return True
        held = getattr(found, "__dict__", {}).values()
        inner = [each for value in held for each in (value if isinstance(value, (list, tuple)) else (value,))]
        inner.append(getattr(found, "span_exporter", None))  # a property in newer SDKs
        waiting += (each for each in inner if isinstance(each, (SpanProcessor, SpanExporter)))
    return False
