"""Collect spans in memory: nothing is sent or written meanwhile, and afterwards the process is as it was."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ..tracing import runtime
from ..tracing.otel.provider import OwnTracerProvider, set_global_provider
from ..tracing.settings.config import Config
from .collected import Spans

_DESTINATIONS: Final = {  # setting -> the environment variables that name such a destination
    "tracking_uri": ("MLSPAN_TRACKING_URI", "MLFLOW_TRACKING_URI"),
    "otlp_endpoint": (
        "MLSPAN_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ),
}
_provider: TracerProvider | None = (
    None  # of all blocks: tracers of an application's modules keep the first that they get
)


@contextmanager
def spans() -> Iterator[Spans]:
    """Collect the spans that end inside the block, mlspan's own and those of the global TracerProvider.

    Inside the block mlspan sends and writes nothing, whatever was configured before and whatever the environment says.
    Only a destination that is set inside the block counts: by an argument of :func:`mlspan.tracing.configure`, or by an
    environment variable that is set in the block before ``configure`` or ``autolog`` reads it. If there is no global
    TracerProvider, there is one inside the block. Afterwards the configuration, the provider and its processors are
    those of before. Blocks may be nested, but threads may not use blocks of their own at the same time.

    Yields:
        The collected spans, which can be read after the block too.
    """
    exporter = InMemorySpanExporter()
    undo_provider = _provide_provider()
    saved = runtime.replace_runtime(_MemoryOnly())
    remove_listener = runtime.add_listener(SimpleSpanProcessor(exporter))
    try:
        yield Spans(exporter)
    finally:
        exporter.shutdown()
        remove_listener()
        undo_provider()
        runtime.restore_runtime(saved)


class _MemoryOnly:
    """Takes the destinations out of a Config, but for those that were set inside the block."""

    def __init__(self) -> None:
        self._before = _read_destinations()

    def __call__(self, config: Config, arguments: Mapping[str, object]) -> Config:
        now = _read_destinations()
        inherited = [name for name in _DESTINATIONS if arguments.get(name) is None and now[name] == self._before[name]]
        if config.otlp_endpoint is None and not any(now["otlp_endpoint"]):
            inherited = [name for name in inherited if name != "otlp_endpoint"]  # nothing asks for one
        changes: dict[str, Any] = dict.fromkeys(inherited, "none")
        return dataclasses.replace(config, **changes)


def _read_destinations() -> dict[str, list[str | None]]:
    """Return what the environment says of each destination."""
    return {name: [os.environ.get(variable) for variable in names] for name, names in _DESTINATIONS.items()}


def _provide_provider() -> Any:
    """Set a global TracerProvider if there is none, and return the function that takes it back."""
    global _provider  # see above
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return lambda: None
    if _provider is None:
        _provider = OwnTracerProvider(shutdown_on_exit=False)
    return set_global_provider(_provider)
