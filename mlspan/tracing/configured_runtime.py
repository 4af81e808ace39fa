"""The runtime of one Config in this process: its tracer, its content policy, its export pipelines and its metrics.

A Runtime joins the application's TracerProvider or makes its own. Which one is in use says ``runtime.py``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from .._guard import guard, redaction_filter, warn_once
from .._version import __version__
from .destinations import make_export_pipeline, make_mlflow_sink, needs_otlp
from .export import self_metrics
from .export.flush_request import FlushRequest
from .export.flush_result import FlushResult
from .export.processor import STORE_TIMEOUT, ExportProcessor
from .mlflow_state import runs
from .operations.call_context import TraceOrigin
from .operations.content import ContentPolicy, as_text, make_redactor
from .operations.detail_events import DetailEvents
from .operations.metrics import Instruments
from .operations.operation import finish_abandoned_operations
from .otel.fast_span import SpanStarter
from .otel.provider import (
    ForwardingProcessor,
    JoinedProviders,
    OwnTracerProvider,
    is_mlflow_provider,
    read_global_provider,
    takes_processors,
    warn_of_fork_hook,
)
from .otel.resource import describe_program
from .otel.usage_telemetry import find_usage_telemetry, warn_of_usage_telemetry
from .page_urls import PageUrls
from .settings.config import Config


class Runtime:
    """Everything that one Config means: the tracer, the content policy, the pipelines and the metrics."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = ContentPolicy(
            capture=config.capture_content or config.content_events,
            redact=make_redactor(config.redact),
            limit=config.max_content_bytes,
            on_spans=config.capture_content,
        )
        self.events = DetailEvents(self.policy, __version__) if config.content_events else None
        redaction_filter.redact = self.policy.render_error
        self.instruments = Instruments(__version__)
        self_metrics.create_instruments(__version__)
        self._mlflow_sink = make_mlflow_sink(config)
        self._read_origin = _make_origin_reader(config)
        self.page_urls = PageUrls(self._mlflow_sink, self._read_origin, config.experiment)
        self._pipelines: dict[
            bool, ExportProcessor
        ] = {}  # by whether it sends by OTLP too: some providers do so themselves
        self._stopping_pipelines: list[
            tuple[ExportProcessor, FlushRequest]
        ] = []  # of this Config and earlier ones, still sending
        self._own_provider: TracerProvider | None = None
        self._library_providers: WeakSet[trace.TracerProvider] = WeakSet()  # that only one library has
        self._followed_provider: object = None
        self._provider_if_unset: object = self  # what get_tracer_provider() returns as long as none is set
        self._tap = ForwardingProcessor(())  # in the provider in use
        self._provider: trace.TracerProvider = trace.NoOpTracerProvider()
        self._span_starter = SpanStarter(trace.NoOpTracer())
        self._lock = threading.RLock()
        self.environment = read_environment()

    @property
    def shares_mlflow(self) -> bool:
        """Return whether traces go to the MLflow to which this process's own MLflow writes its traces."""
        if self._mlflow_sink is None:
            return False
        chosen = self.config.tracking_uri
        return chosen is None or chosen.rstrip("/") == (runs.get_tracking_uri() or "").rstrip("/")

    @property
    def owns_provider(self) -> bool:
        """Return whether the provider in use is one of our own."""
        return self.get_provider() is self._own_provider

    @property
    def mlflow_uri(self) -> str | None:
        """Return where traces go that name no other MLflow; None if MLflow is off."""
        if self._mlflow_sink is None:
            return None
        return self.config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or self._mlflow_sink.default_uri

    @property
    def sends_otlp(self) -> bool:
        """Return whether the spans of the provider in use are sent by OTLP, too."""
        return needs_otlp(self.config, self.get_provider())

    def count_waiting(self) -> int:
        """Return how many ended spans some backend has not taken yet."""
        pipelines = {*self._pipelines.values(), *(each for each, _ in self._stopping_pipelines)}
        return sum(each.count_unsent() for each in pipelines)

    @property
    def keeps_in_memory(self) -> bool:
        """Return whether spans are in memory only although they should be on disk."""
        return self.config.durability != "none" and any(each.has_lost_disk for each in self._pipelines.values())

    def get_tracer(self) -> trace.Tracer:
        """Return the tracer of the application's provider, or of our own as long as the application has set none."""
        tracer: trace.Tracer = self.get_span_starter().tracer
        return tracer

    def get_span_starter(self) -> SpanStarter:
        """Return the starter of the spans of :meth:`get_tracer`."""
        current = read_global_provider()
        if current is None:
            current = self._provider_if_unset
        if current is not self._followed_provider or self._tap.is_stale:
            self._notice_provider()
        return self._span_starter

    def _notice_provider(self) -> None:
        """Follow the global provider, if that is another one than before."""
        current = trace.get_tracer_provider()
        if read_global_provider() is None:
            self._provider_if_unset = current
        if current is not self._followed_provider or self._tap.is_stale:
            with self._lock, guard("joining the TracerProvider"):
                self._follow_provider(current)

    def get_provider(self) -> trace.TracerProvider:
        """Return the provider of :meth:`get_tracer`."""
        self.get_tracer()
        return self._provider

    def join_library_provider(self, provider: trace.TracerProvider) -> None:
        """Send the spans of *provider*, which only one library has, beside those of the provider in use."""
        if takes_processors(provider) and not is_mlflow_provider(provider):
            self._join_provider(provider)
            self._library_providers.add(provider)

    def leave_library_provider(self, provider: trace.TracerProvider) -> None:
        """Take our processor out of *provider* again, unless it is the provider in use as well."""
        self._library_providers.discard(provider)
        if provider is not self.get_provider():
            with forwarders_lock:
                forwarders.leave(provider)

    def _follow_provider(self, current: trace.TracerProvider) -> None:
        """Use *current* as the provider if it takes span processors and is not MLflow's, else make our own.

        It need not be one of the SDK: Logfire's, for one, is a proxy around one that it replaces at will. A library's
        usage telemetry is no provider of the application: our spans would go to the library's maker.
        """
        if (telemetry := find_usage_telemetry(current)) is not None:
            warn_of_usage_telemetry(telemetry)
        if takes_processors(current) and not is_mlflow_provider(current) and telemetry is None:
            self._tap = self._join_provider(current)
            warn_of_fork_hook(current)
            self._use_provider(current)
        elif self._followed_provider is None:  # if the provider is unset later, the one that we joined is kept
            if not takes_processors(current) and not isinstance(current, trace.ProxyTracerProvider):
                warn_once(
                    "mlspan: the TracerProvider %s takes no span processor, so mlspan's spans go through a provider of "
                    "its own; set one of opentelemetry.sdk.trace to have them in yours",
                    type(current).__name__,
                )
            self._use_provider(self._make_own_provider())
            if self.config.global_provider and isinstance(current, trace.ProxyTracerProvider):
                self._followed_provider = current = self._provider  # before it is set, as that tells us of it
                trace.set_tracer_provider(self._provider)
        self._followed_provider = current

    def _use_provider(self, provider: trace.TracerProvider) -> None:
        """Start spans by the tracer of *provider* from now on."""
        self._provider = provider
        self._span_starter = SpanStarter(provider.get_tracer("mlspan", __version__, self.config.schema_url))

    def _make_own_provider(self) -> TracerProvider:
        """Make and join a private provider, which becomes the global one only if that is asked for."""
        config = self.config
        resource = describe_program(config.service_name)
        sampler = ParentBased(TraceIdRatioBased(config.sample_ratio)) if config.sample_ratio < 1 else None
        self._own_provider = OwnTracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._tap = self._join_provider(self._own_provider)
        return self._own_provider

    def _join_provider(self, provider: trace.TracerProvider) -> ForwardingProcessor:
        """Send the spans of *provider* to our targets, by the processor that it already has or a new one."""
        with forwarders_lock:
            tap = forwarders.find(provider)
            targets = self._select_targets(provider)
            if tap is not None and not tap.is_stale:
                tap.targets = targets
            else:
                tap = forwarders.join(provider, targets)
        return tap

    def leave_application_providers(self) -> None:
        """Take our processors out of every provider but our own."""
        with forwarders_lock:
            for provider, _ in forwarders.list_joined():
                if provider is not self._own_provider:
                    forwarders.leave(provider)

    def _select_targets(self, provider: trace.TracerProvider) -> tuple[SpanProcessor, ...]:
        """Return the processors for the spans of *provider*: all listeners, and a pipeline if spans are to be sent."""
        by_otlp = needs_otlp(self.config, provider)
        if self._mlflow_sink is None and not by_otlp:
            return tuple(listeners)
        if by_otlp not in self._pipelines:
            self._pipelines[by_otlp] = make_export_pipeline(
                self.config, self._read_origin, self._mlflow_sink, by_otlp=by_otlp
            )
        return (self._pipelines[by_otlp], *listeners)

    def update_targets(self) -> None:
        """Set the targets of every provider again, after the listeners have changed."""
        for provider, _ in forwarders.list_joined():
            self._join_provider(provider)

    @property
    def resource(self) -> Resource:
        """Return the resource of the provider in use."""
        self.get_tracer()
        found = getattr(self._own_provider or self._followed_provider, "resource", None)
        return found if isinstance(found, Resource) else Resource.get_empty()

    def submit_span(self, span: ReadableSpan) -> None:
        """Send an ended span that no tracer can start to our own exporters."""
        self.get_tracer()
        for each in list(self._pipelines.values())[-1:]:  # that of the provider in use
            each.on_start(span)
            each.on_end(span)

    def take_over(self, previous: Runtime) -> None:
        """Use the pipelines of *previous* if this Config sends the same spans to the same places in the same way.

        So changing another setting again and again starts no threads, whether or not a backend answers.
        """
        same = (getattr(self.config, name) == getattr(previous.config, name) for name in _DELIVERY_SETTINGS)
        if self.environment != previous.environment or not all(same):
            return
        self._pipelines, previous._pipelines = previous._pipelines, {}
        for each in self._pipelines.values():
            each.update_policies(
                self._read_origin, make_redactor(self.config.redact), capture=self.config.capture_content
            )

    def join_library_providers_of(self, previous: Runtime) -> None:
        """Join the providers of single libraries that *previous* had joined and has left."""
        for provider in list(previous._library_providers):
            self.join_library_provider(provider)

    def _stop_pipelines(self, timeout: float | None, store_timeout: float) -> None:
        """Stop all pipelines at once, as each may have to wait for a backend."""
        self._stopping_pipelines += [(each, each.request_flush(last=True)) for each in self._pipelines.values()]
        started = time.monotonic()
        for each, flush in self._stopping_pipelines:
            flush.wait(each.choose_exit_timeout(timeout) - (time.monotonic() - started))
        for _, flush in self._stopping_pipelines:
            flush.kept.wait(store_timeout)

    def postpone_signal(self, number: int) -> bool:
        """Return whether the signal *number* has interrupted this thread while it stores, and waits for that."""
        pipelines = {*self._pipelines.values(), *(each for each, _ in self._stopping_pipelines)}
        return any(each.postpone_signal(number) for each in pipelines)

    def store_before_signal(self, timeout: float) -> None:
        """Wait until all that has ended is on the disk, at most *timeout* seconds. The process then ends."""
        begun = {each for each, _ in self._stopping_pipelines}
        asked = [each.request_flush(last=True) for each in self._pipelines.values() if each not in begun]
        for flush in [*asked, *(flush for _, flush in self._stopping_pipelines)]:
            flush.kept.wait(timeout)

    def log_unsent(self) -> None:
        """Log a line for each pipeline that leaves spans behind when the process ends."""
        stopping = (each for each, _ in self._stopping_pipelines)
        for each in dict.fromkeys([*self._pipelines.values(), *stopping]):
            each.log_unsent()

    def flush(self, timeout: float) -> FlushResult:
        """Send all ended spans, and wait at most *timeout* seconds. Return what has become of them."""
        return _combine_results(self._flush_pipelines(timeout)[0])

    def send_ended(self, timeout: float) -> bool:
        """Send all ended spans. Return whether every backend has them within *timeout* seconds.

        What was set aside or dropped is left for :meth:`flush` to tell.
        """
        return self._flush_pipelines(timeout)[1]

    def send_to_mlflow(self, timeout: float) -> bool:
        """Send all ended spans. Return whether MLflow has them within *timeout* seconds; other receivers may wait."""
        until = time.monotonic() + timeout
        asked = [each.request_flush(last=False) for each in self._pipelines.values() if each.has_sink("mlflow")]
        return all([flush.wait_for("mlflow", until - time.monotonic()) for flush in asked])  # noqa: C419  # wait for all

    def _flush_pipelines(self, timeout: float) -> tuple[list[tuple[ExportProcessor, FlushRequest]], bool]:
        """Flush every pipeline and wait. Return the requests, and whether every backend has taken all."""
        until = time.monotonic() + timeout
        self._record_late_calls()
        asked = list(self._stopping_pipelines)
        asked += [(each, each.request_flush(last=False)) for each in self._pipelines.values()]
        sent = [flush.wait(until - time.monotonic()) for _, flush in asked]  # wait for all, even after a failure
        return asked, all(sent)

    def _record_late_calls(self) -> None:
        """Measure the calls that have ended in finalizers, and write their events."""
        self.instruments.record_late_calls()
        if self.events is not None:
            self.events.emit_late_events()

    def count_ended_spans(self) -> int:
        """Return a count that changes whenever a span has ended."""
        return sum(each.ends for each in self._pipelines.values())

    def start_flush(self) -> None:
        """Start to send all ended spans, without waiting."""
        for each in self._pipelines.values():
            each.request_flush(last=False)

    def save_to_disk(self, timeout: float) -> bool:
        """Write all ended spans to disk without sending them. Return whether that took at most *timeout* seconds."""
        asked = [each.request_flush(last=False, send=False) for each in self._pipelines.values()]
        return all([flush.kept.wait(timeout) for flush in asked])  # noqa: C419

    def shutdown(
        self, timeout: float | None, *, successor: Runtime | None = None, finish_operations: bool = True
    ) -> FlushResult:
        """Send all spans and leave every provider. Return what has become of them.

        Args:
            timeout: seconds to wait; None waits as long as the sinks ask for at the end of the process; 0 with a
                successor waits for nothing, not even for the disk.
            successor: a runtime that takes over what is still being sent.
            finish_operations: whether to end the spans of abandoned streams first.
        """
        if finish_operations:
            finish_abandoned_operations()
        self._record_late_calls()
        self._stop_pipelines(timeout, store_timeout=STORE_TIMEOUT if successor is None or timeout else 0)
        for _, tap in forwarders.list_joined():
            tap.targets = ()
        if successor is None:
            self.log_unsent()
            return _combine_results(self._stopping_pipelines)
        for each, flush in self._stopping_pipelines:  # their losses are for the next flush to tell
            if not flush.is_done or each.has_losses:
                successor._stopping_pipelines.append((each, flush))
            else:
                each.log_unsent()
        return FlushResult()


_DELIVERY_SETTINGS: Final = (
    "tracking_uri",
    "experiment",
    "run",
    "otlp_endpoint",
    "otlp_protocol",
    "otlp_names",
    "sample_ratio",
    "keep",
    "durability",
    "spool_dir",
    "spool_bytes",
    "spool_age",
    "partial_interval",
)
_READ_EACH_TIME: Final = frozenset({"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"})


def read_environment() -> dict[str, str]:
    """Return what a Runtime reads beside its Config, but for the variables that it reads for each trace."""
    found = {key: value for key, value in os.environ.items() if key.startswith(("MLFLOW_", "MLSPAN_", "OTEL_", "XDG_"))}
    with suppress(OSError):
        found["folder"] = os.getcwd()  # noqa: PTH109  # the text is enough
    return {key: value for key, value in found.items() if key not in _READ_EACH_TIME}


def _combine_results(flushed: Iterable[tuple[ExportProcessor, FlushRequest]]) -> FlushResult:
    """Return what has become of the spans of several pipelines."""
    found = list(flushed)
    results = [result for each, flush in found for result in each.list_results(flush)]
    return FlushResult.combine(results, in_time=all(flush.is_done for _, flush in found))


forwarders: Final = JoinedProviders()
forwarders_lock = threading.Lock()
listeners: Final[list[SpanProcessor]] = []  # they get all spans


def _make_origin_reader(config: Config) -> Callable[[], TraceOrigin]:
    """Return a function that reads what the caller's context says and *config* does not set."""
    return partial(
        runs.read_trace_origin,
        tracking_uri=config.tracking_uri is None,
        experiment=config.experiment is None,
        tags={as_text(key): as_text(value) for key, value in (config.tags or {}).items()},
    )
