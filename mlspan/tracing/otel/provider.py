"""The global TracerProvider: our processor in it, a callback when it is set, and whether it is MLflow's own."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from weakref import ref

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from ..._guard import warn_once
from ..._patching import Undo, observe_method
from .compat import find_sdk_provider, list_span_processors, list_tracer_processors, report_missing
from .fast_span import FastSpan
from .resource import describe_child
from .usage_telemetry import is_usage_telemetry


class OwnTracerProvider(TracerProvider):
    """A TracerProvider that a forked child can have without any thread.

    That of the SDK finds out what the child is with a thread pool, in the middle of the fork. Under gevent, waiting for
    that runs the other greenlets of the program in the child.

    If the SDK's private method has another name, its own runs.
    """

    def _handle_fork(self) -> None:
        self._tracers_lock = threading.Lock()
        if hasattr(super(), "_update_resource"):
            super()._update_resource(describe_child(self.resource))


def warn_of_fork_hook(provider: trace.TracerProvider) -> None:
    """Log once, under gevent, that forks are not safe with a provider that the application has made."""
    found = getattr(type(provider), "_handle_fork", None)
    monkey = sys.modules.get("gevent.monkey")
    if found is None or isinstance(provider, OwnTracerProvider) or monkey is None:
        return
    if monkey.is_module_patched("threading"):
        warn_once(
            "mlspan: the application's TracerProvider starts threads in every process that this one forks, also to run "
            "a program. Under gevent that runs other greenlets in the child, such as requests in progress. "
            "Without a provider of its own, the application gets mlspan's, which starts none"
        )


class ForwardingProcessor(SpanProcessor):
    """The one processor that we add to a TracerProvider. It forwards spans to targets that can change.

    The SDK cannot remove a processor, so ours stays and its targets are replaced. A library's usage telemetry, which
    may be in the application's provider, is not forwarded.
    """

    def __init__(self, targets: tuple[SpanProcessor, ...], *, of_proxy: bool = False) -> None:
        self.targets = targets
        self.is_stale = False  # whether it has to be added again: a proxy has shut down the provider that it stood for
        self._of_proxy = of_proxy

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if FastSpan in type(span).__mro__ or not is_usage_telemetry(span):  # isinstance would run Python code
            for target in self.targets:
                target.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if FastSpan in type(span).__mro__ or not is_usage_telemetry(span):
            for target in self.targets:
                target.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        sent = [target.force_flush(timeout_millis) for target in self.targets]  # all, even after a failure
        return all(sent)

    def shutdown(self) -> None:
        """Send what this provider has given us, and nothing more: the targets may serve other providers."""
        self.force_flush(5_000)
        self.is_stale = self._of_proxy


class JoinedProviders:
    """The providers that have our processor, by identity, as a proxy may have no hash. None is kept alive."""

    def __init__(self) -> None:
        self._joined: list[tuple[Callable[[], trace.TracerProvider | None], ForwardingProcessor]] = []

    def find(self, provider: trace.TracerProvider) -> ForwardingProcessor | None:
        """Return our processor in *provider*; None if it has none."""
        return next((processor for joined, processor in self.list_joined() if joined is provider), None)

    def list_joined(self) -> list[tuple[trace.TracerProvider, ForwardingProcessor]]:
        """Return the providers that are still alive, each with our processor."""
        alive = ((find_if_alive(), processor) for find_if_alive, processor in self._joined)
        return [(provider, processor) for provider, processor in alive if provider is not None]

    def list_processors(self) -> tuple[ForwardingProcessor, ...]:
        """Return our processors in them."""
        return tuple(processor for _, processor in self.list_joined())

    def join(self, provider: trace.TracerProvider, targets: tuple[SpanProcessor, ...]) -> ForwardingProcessor:
        """Add a processor with *targets* to *provider* and return it."""
        processor = ForwardingProcessor(targets, of_proxy=not isinstance(provider, TracerProvider))
        host: Any = provider
        host.add_span_processor(processor)
        others = [each for each in self._joined if (alive := each[0]()) is not None and alive is not provider]
        self._joined = [*others, (_make_reference(provider), processor)]
        return processor

    def leave(self, provider: trace.TracerProvider) -> None:
        """Remove our processor from *provider*, or at least what it forwards to."""
        if (processor := self.find(provider)) is not None:
            self._joined = [each for each in self._joined if each[1] is not processor]
            processor.targets = ()
            remove_processor(provider, processor)


# Returns the global provider, None if none is set, without reading the environment as the public function does.
read_global_provider: Final[Callable[[], object]] = (
    partial(vars(trace).get, "_TRACER_PROVIDER") if hasattr(trace, "_TRACER_PROVIDER") else trace.get_tracer_provider
)
_SETTER: Final = "_set_tracer_provider"  # every way to set the global provider goes through this private function


def watch_provider_changes(notify: Callable[[], object]) -> Undo:
    """Call *notify* whenever the global TracerProvider has been set, until the returned function is called.

    Where OpenTelemetry lacks the private function that this observes, nothing is called: the provider is then noticed
    when the next operation starts, and what its application has recorded before that is not ours.
    """
    if not hasattr(trace, _SETTER):
        report_missing(_SETTER)
        return lambda: None
    return observe_method(f"opentelemetry.trace:{_SETTER}", lambda *_: notify())


def _make_reference(provider: trace.TracerProvider) -> Callable[[], trace.TracerProvider | None]:
    """Return a function that returns *provider*, without keeping it alive where Python can do so."""
    try:
        return ref(provider)
    except TypeError:  # its class has __slots__
        return lambda: provider


def takes_processors(provider: object) -> bool:
    """Return whether spans of *provider* can be had by a processor, whatever its class is."""
    return callable(getattr(type(provider), "add_span_processor", None))


def is_mlflow_provider(provider: trace.TracerProvider) -> bool:
    """Return whether *provider* is MLflow's own, which it may set as the global one; MLflow exports those spans itself.

    If the private fields are missing, no provider counts as MLflow's.
    """
    return any(type(processor).__module__.startswith("mlflow.") for processor in list_span_processors(provider))


def is_tracer_joined(tracer: object) -> bool:
    """Return whether spans of *tracer* go where mlspan's go. That of a proxy, which tells nothing, counts as joined.

    They do where mlspan gets them, and where both go to the processors of the global provider: mlspan may have no
    destination of its own, and its spans are then exported by the application alone.
    """
    processors = list_tracer_processors(tracer)
    if processors is None or any(isinstance(one, ForwardingProcessor) and one.targets for one in processors):
        return True
    return tuple(processors) == tuple(list_span_processors(trace.get_tracer_provider()))


def remove_processor(provider: trace.TracerProvider, processor: SpanProcessor) -> None:
    """Remove *processor* from *provider*. If the private fields are missing, it stays there."""
    multi: Any = getattr(find_sdk_provider(provider), "_active_span_processor", None)  # there is no public way
    processors = getattr(multi, "_span_processors", ())
    if processor in processors:
        multi._span_processors = tuple(each for each in processors if each is not processor)


def set_global_provider(provider: TracerProvider) -> Callable[[], None]:
    """Make *provider* the global one, and return the function that leaves the process without one again.

    An application that sets its own meanwhile keeps it. If the private variable is missing, *provider* is set in the
    public way, which is for good.
    """
    module = getattr(trace, "_TRACER_PROVIDER", provider) is None and vars(trace)
    if not module:
        trace.set_tracer_provider(provider)
        return lambda: None

    def undo() -> None:
        if module["_TRACER_PROVIDER"] is provider:
            module["_TRACER_PROVIDER"] = None

    module["_TRACER_PROVIDER"] = provider
    return undo
