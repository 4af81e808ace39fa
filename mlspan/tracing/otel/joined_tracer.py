"""Tracers for libraries that trace themselves: their spans go where mlspan's own go, whoever has set a provider.

Such a library asks OpenTelemetry for the global TracerProvider, often when it is imported. Where the application has
set none, the library's spans would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from opentelemetry.trace import NoOpTracer, ProxyTracer, Span, Tracer, TracerProvider

from ..._patching import Undo, remember_undo
from ..._private_names import report_missing_name

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_real_tracer": "spans of a library that traces itself, unless there is a global TracerProvider",
}
PRIVATE_FIELDS: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("_instrumenting_module_name", "_instrumenting_library_version"), "the scope of such spans has no name"
    ),
}

_nowhere = NoOpTracer()


class JoinedTracer(Tracer):
    """A tracer whose spans are made by the provider that is in use when each of them starts.

    Args:
        find_provider: returns that provider.
        should_record: returns whether there is to be a span now.
        scope: the arguments of ``TracerProvider.get_tracer``: the scope's name, version, and so on.
    """

    def __init__(
        self, find_provider: Callable[[], TracerProvider], should_record: Callable[[], bool], *scope: Any
    ) -> None:
        self._find_provider, self._should_record, self._scope = find_provider, should_record, scope
        self._made: tuple[TracerProvider | None, Tracer] = (None, _nowhere)  # the last provider, and its tracer

    def start_span(self, *args: Any, **kwargs: Any) -> Span:
        """Start a span as ``Tracer.start_span`` does, or return one that records nothing."""
        return self._find_tracer().start_span(*args, **kwargs)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        """Start a span and make it current, as ``Tracer.start_as_current_span`` does."""
        started: AbstractContextManager[Span] = self._find_tracer().start_as_current_span(*args, **kwargs)
        return started

    def _find_tracer(self) -> Tracer:
        if not self._should_record():
            return _nowhere
        provider = self._find_provider()
        made_by, tracer = self._made
        if made_by is not provider:
            tracer = provider.get_tracer(*self._scope)
            self._made = (provider, tracer)
        return tracer


class JoinedTracerProvider(TracerProvider):
    """A provider of such tracers, for a library that takes one. The arguments are those of :class:`JoinedTracer`."""

    def __init__(self, find_provider: Callable[[], TracerProvider], should_record: Callable[[], bool]) -> None:
        self._find_provider, self._should_record = find_provider, should_record

    def get_tracer(self, *args: Any, **kwargs: Any) -> Tracer:
        """Return a tracer for the scope that the arguments describe, as ``TracerProvider.get_tracer`` does."""
        names = ("instrumenting_module_name", "instrumenting_library_version", "schema_url", "attributes")
        scope = [*args, *(kwargs.get(name) for name in names[len(args) :])]
        return JoinedTracer(self._find_provider, self._should_record, *scope)


def lend_tracer(proxy: object, provider: JoinedTracerProvider) -> Undo:
    """Have the spans of *proxy* made by *provider*, and return what ends that.

    A tracer that a library has asked for before there was a provider is a proxy, of which there is one for all who
    hold it. Any other tracer has a provider, and is left alone.
    """
    if isinstance(proxy, ProxyTracer) and not hasattr(proxy, "_real_tracer"):
        report_missing_name("OpenTelemetry", "_real_tracer", PRIVATE_NAMES["_real_tracer"])
    if not isinstance(proxy, ProxyTracer) or getattr(proxy, "_real_tracer", proxy) is not None:
        return lambda: None
    scope = (getattr(proxy, name, None) for name in ("_instrumenting_module_name", "_instrumenting_library_version"))
    lent = proxy._real_tracer = provider.get_tracer(*scope)

    def undo() -> None:
        if proxy._real_tracer is lent:
            proxy._real_tracer = None

    return remember_undo(undo)
