"""The runtime: what one Config means for this process. It joins the application's TracerProvider or makes its own."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from .._guard import guard, redacted, tell_once
from .._version import __version__
from .destinations import keeping, mlflow_sink, needs_otlp, open_sink, pipeline
from .export import self_metrics
from .export.flush_request import Flush
from .export.processor import KEEPING, Pipeline
from .mlflow_state import prompts, runs
from .operations.call_context import Origin
from .operations.content import Policy, as_text, redactor
from .operations.metrics import Instruments
from .operations.operation import finish_streams
from .otel.fast_span import Starter
from .otel.provider import Tap, _is_mlflows
from .otel.resource import describe_program
from .settings.config import Config
from .settings.resolution import resolve
from .shutdown import Exits

if TYPE_CHECKING:
    from .export.spool.drain import Drained


class Runtime:
    """Everything that one Config means: the tracer, the content policy, the pipelines and the metrics."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = Policy(
            capture=config.capture_content, redact=redactor(config.redact), limit=config.max_content_bytes
        )
        redacted.redact = self.policy.error
        self.instruments = Instruments(__version__)
        self_metrics.observe(__version__)
        self._sink = mlflow_sink(config)
        self._origin = _origin(config)
        self._pipelines: dict[bool, Pipeline] = {}  # by whether it sends by OTLP too: some providers do so themselves
        self._ending: list[tuple[Pipeline, Flush]] = []  # of this Config and earlier ones, still sending
        self._own: TracerProvider | None = None
        self._seen: object = None
        self._starter = Starter(trace.NoOpTracer())
        self._lock = threading.RLock()

    def tracer(self) -> trace.Tracer:
        """Return the tracer of the application's provider, or of our own as long as the application has set none."""
        tracer: trace.Tracer = self.starter().tracer
        return tracer

    def starter(self) -> Starter:
        """Return the starter of the spans of :meth:`get_tracer`."""
        current = trace.get_tracer_provider()
        if current is not self._seen:
            with self._lock, guard("joining the TracerProvider"):
                self._follow(current)
        return self._starter

    def _follow(self, current: trace.TracerProvider) -> None:
        """Use *current* as the provider if it is one of the SDK and not MLflow's, else make our own."""
        if isinstance(current, TracerProvider) and not _is_mlflows(current):
            self._join(current)
            self._starter = Starter(current.get_tracer("mlspan", __version__))
        elif self._seen is None:  # if the provider is unset later, the one that we joined is kept
            if not isinstance(current, (TracerProvider, trace.ProxyTracerProvider)):
                tell_once(
                    "mlspan: the TracerProvider %s takes no span processor, so mlspan's spans go through a provider of "
                    "its own; set one of opentelemetry.sdk.trace to have them in yours",
                    type(current).__name__,
                )
            self._starter = Starter(self._make().get_tracer("mlspan", __version__))
        self._seen = current

    def _make(self) -> TracerProvider:
        """Make and join a private provider, which never becomes the global one."""
        config = self.config
        resource = describe_program(config.service_name)
        sampler = ParentBased(TraceIdRatioBased(config.sample_ratio)) if config.sample_ratio < 1 else None
        self._own = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._join(self._own)
        return self._own

    def _join(self, provider: TracerProvider) -> None:
        """Send the spans of *provider* to our targets, by the processor that it already has or a new one."""
        with _taps_lock:
            tap = _taps.get(provider)
            targets = self._targets(provider)
            if tap is not None:
                tap.targets = targets
            else:
                tap = _taps[provider] = Tap(targets)
                provider.add_span_processor(tap)

    def _targets(self, provider: TracerProvider) -> tuple[SpanProcessor, ...]:
        """Return the processors for the spans of *provider*: all listeners, and a pipeline if spans are to be sent."""
        by_otlp = needs_otlp(self.config, provider)
        if self._sink is None and not by_otlp:
            return tuple(_listeners)
        if by_otlp not in self._pipelines:
            self._pipelines[by_otlp] = pipeline(self.config, self._origin, self._sink, by_otlp=by_otlp)
        return (self._pipelines[by_otlp], *_listeners)

    def rejoin(self) -> None:
        """Set the targets of every provider again, after the listeners have changed."""
        for provider in list(_taps):
            self._join(provider)

    def run_url(self, experiment_id: str, run_id: str) -> str | None:
        """Return the page of a run in MLflow's own store; None if the store is unknown."""
        from .export.mlflow.sink import run_url

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (self._sink._uri if self._sink is not None else None)
        return None if uri is None else run_url(uri, experiment_id, run_id)

    @property
    def resource(self) -> Resource:
        """Return the resource of the provider in use."""
        self.tracer()
        provider = self._own or self._seen
        return provider.resource if isinstance(provider, TracerProvider) else Resource.get_empty()

    def submit(self, span: ReadableSpan) -> None:
        """Send an ended span that no tracer can start to our own exporters."""
        self.tracer()
        for each in list(self._pipelines.values())[-1:]:  # that of the provider in use
            each.on_start(span)
            each.on_end(span)

    def _stop(self, timeout: float | None) -> bool:
        """Stop all pipelines at once, as each may have to wait for a backend. Return whether all was sent."""
        self._ending += [(each, each.ask(last=True)) for each in self._pipelines.values()]
        started = time.monotonic()
        sent = [flush.wait(each.grace(timeout) - (time.monotonic() - started)) for each, flush in self._ending]
        for _, flush in self._ending:
            flush.kept.wait(KEEPING)
        return all(sent)

    def likely_url(self, trace_id: str) -> str | None:
        """Return the page of a trace without asking a server; None if only the experiment's name is known."""
        if self._sink is None:
            return None
        from .export.destination import address
        from .export.mlflow.sink import trace_url

        destination = address(self._origin(), self._sink._uri, self.config.experiment, None)
        experiment = destination.experiment_id or destination.experiment_name or ""
        return trace_url(str(destination.tracking_uri), experiment, trace_id) if experiment.isdigit() else None

    def trace_url(self, trace_id: str) -> str | None:
        """Return the page of a trace, or None if it cannot be found or MLflow is off. This may ask the server."""
        if self._sink is None:
            return None
        from .export.mlflow.sink import trace_url
        from .export.mlflow.store import Rejected
        from .export.types import Away

        try:
            (uri, experiment_id), _ = self._sink.locate(self._origin())
        except (Away, Rejected) as unknown:
            tell_once("mlspan: no link to the trace: %s", unknown)
            return None
        return trace_url(uri, experiment_id, trace_id)

    def flush(self, timeout: float) -> bool:
        """Send all ended spans. Return whether every backend has them within *timeout* seconds."""
        until = time.monotonic() + timeout
        self.instruments.catch_up()
        asked = [flush for _, flush in self._ending]
        asked += [each.ask(last=False) for each in self._pipelines.values()]
        return all([flush.wait(until - time.monotonic()) for flush in asked])  # noqa: C419  # wait for all, even after a failure

    def ends(self) -> int:
        """Return a count that changes whenever a span has ended."""
        return sum(each.ends for each in self._pipelines.values())

    def hurry(self) -> None:
        """Start to send all ended spans, without waiting."""
        for each in self._pipelines.values():
            each.ask(last=False)

    def save(self, timeout: float) -> bool:
        """Write all ended spans to disk without sending them. Return whether that took at most *timeout* seconds."""
        asked = [each.ask(last=False, send=False) for each in self._pipelines.values()]
        return all([flush.kept.wait(timeout) for flush in asked])  # noqa: C419

    def shutdown(self, timeout: float | None, *, successor: Runtime | None = None) -> bool:
        """Send all spans and leave every provider. Return whether all was sent.

        Args:
            timeout: seconds to wait; None waits as long as the sinks ask for at the end of the process.
            successor: a runtime that takes over what is still being sent.
        """
        finish_streams()
        self.instruments.catch_up()
        sent = self._stop(timeout)
        for tap in list(_taps.values()):
            tap.targets = ()
        for each, flush in self._ending:
            if successor is not None and not flush.done:
                successor._ending.append((each, flush))
            else:
                each.say_what_stays()
        return sent


_taps: WeakKeyDictionary[TracerProvider, Tap] = WeakKeyDictionary()
_taps_lock = threading.Lock()
_runtime: Runtime | None = None
_ended = False
_runtime_lock = threading.RLock()


def runtime() -> Runtime | None:
    """Return the runtime in use, made from the environment if nobody has called configure; None after shutdown."""
    if _runtime is None and not _ended:
        with guard("reading the settings"):
            start(resolve({}))
    return _runtime


def listen(processor: SpanProcessor) -> Callable[[], None]:
    """Give all spans to *processor* too, until the returned function is called.

    *processor* must be quick and wait for nothing.
    """

    def undo() -> None:
        _listeners.remove(processor)
        if _runtime is not None:
            _runtime.rejoin()

    _listeners.append(processor)
    if (now := runtime()) is not None:
        now.rejoin()
    return undo


_listeners: list[SpanProcessor] = []


def start(config: Config) -> Runtime:
    """Make a runtime of *config* the one in use; what the previous one has recorded is sent."""
    global _runtime, _ended  # a process has one configuration
    with _runtime_lock:
        previous, _runtime, _ended = _runtime, Runtime(config), False
        if previous is None:
            runs.follow_runs()
            prompts.follow()
            atexit.register(stop, None)
            _exits.watch()
        else:
            previous.shutdown(5, successor=_runtime)
        _runtime.tracer()
        return _runtime


def join() -> None:
    """Record again after a shutdown, and join the application's TracerProvider now rather than at the first call."""
    global _ended
    _ended = False
    if (now := runtime()) is not None:
        now.tracer()


def stop(timeout: float | None) -> bool:
    """Send what has been recorded and record no more. Return whether all was sent.

    A *timeout* of None waits as long as the sinks ask for at the end of the process.
    """
    global _runtime, _ended
    with _runtime_lock:
        previous, _runtime, _ended = _runtime, None, True
    atexit.unregister(stop)
    _exits.leave()
    return previous is None or previous.shutdown(timeout)


def _save() -> None:
    """Write all ended spans to disk, within a second."""
    if _runtime is not None:
        _runtime.save(1.0)


_exits = Exits(partial(stop, None), _save)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_exits.forked)


def drain(
    config: Config, tracking_uri: str | None, timeout: float, progress: Callable[[Drained], object] | None
) -> Drained:
    """Drain the spools, as :func:`mlspan.tracing.drain` describes, after sending what this process has waiting."""
    from .export.spool.drain import drain

    if _runtime is not None:
        _runtime.flush(max(timeout, 5.0))
    return drain(keeping(config), partial(open_sink, tracking_uri=tracking_uri), timeout, progress)


def _origin(config: Config) -> Callable[[], Origin]:
    """Return a function that reads what the caller's context says and *config* does not set."""
    return partial(
        runs.origin,
        tracking_uri=config.tracking_uri is None,
        experiment=config.experiment is None,
        tags={as_text(key): as_text(value) for key, value in (config.tags or {}).items()},
    )
