"""The runtime: what one Config means for this process. It joins the application's TracerProvider or makes its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from .._copies import call_at_retirement, take_over_recording
from .._guard import guard, redaction_filter, warn_once
from .._patching import install_until_shutdown, undo_at_shutdown
from .._version import __version__
from .destinations import make_export_pipeline, make_mlflow_sink, make_spool_settings, needs_otlp, open_sink
from .exit_watcher import ExitWatcher
from .export import self_metrics
from .export.flush_request import FlushRequest
from .export.flush_result import FlushResult
from .export.processor import STORE_TIMEOUT, ExportProcessor
from .mlflow_state import prompts, runs
from .operations.call_context import TraceOrigin
from .operations.content import ContentPolicy, as_text, make_redactor
from .operations.metrics import Instruments
from .operations.operation import finish_abandoned_operations
from .otel.fast_span import SpanStarter
from .otel.provider import (
    ForwardingProcessor,
    JoinedProviders,
    OwnTracerProvider,
    is_mlflow_provider,
    takes_processors,
    warn_of_fork_hook,
    watch_provider_changes,
)
from .otel.resource import describe_program
from .settings.config import Config
from .settings.resolution import resolve_config

if TYPE_CHECKING:
    from .export.spool.drain import DrainResult


class Runtime:
    """Everything that one Config means: the tracer, the content policy, the pipelines and the metrics."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.policy = ContentPolicy(
            capture=config.capture_content, redact=make_redactor(config.redact), limit=config.max_content_bytes
        )
        redaction_filter.redact = self.policy.render_error
        self.instruments = Instruments(__version__)
        self_metrics.create_instruments(__version__)
        self._mlflow_sink = make_mlflow_sink(config)
        self._read_origin = _make_origin_reader(config)
        self._pipelines: dict[
            bool, ExportProcessor
        ] = {}  # by whether it sends by OTLP too: some providers do so themselves
        self._stopping_pipelines: list[
            tuple[ExportProcessor, FlushRequest]
        ] = []  # of this Config and earlier ones, still sending
        self._own_provider: TracerProvider | None = None
        self._followed_provider: object = None
        self._tap = ForwardingProcessor(())  # in the provider in use
        self._provider: trace.TracerProvider = trace.NoOpTracerProvider()
        self._span_starter = SpanStarter(trace.NoOpTracer())
        self._lock = threading.RLock()
        self.environment = _read_environment()

    def get_tracer(self) -> trace.Tracer:
        """Return the tracer of the application's provider, or of our own as long as the application has set none."""
        tracer: trace.Tracer = self.get_span_starter().tracer
        return tracer

    def get_span_starter(self) -> SpanStarter:
        """Return the starter of the spans of :meth:`get_tracer`."""
        current = trace.get_tracer_provider()
        if current is not self._followed_provider or self._tap.is_stale:
            with self._lock, guard("joining the TracerProvider"):
                self._follow_provider(current)
        return self._span_starter

    def get_provider(self) -> trace.TracerProvider:
        """Return the provider of :meth:`get_tracer`."""
        self.get_tracer()
        return self._provider

    def _follow_provider(self, current: trace.TracerProvider) -> None:
        """Use *current* as the provider if it takes span processors and is not MLflow's, else make our own.

        It need not be one of the SDK: Logfire's, for one, is a proxy around one that it replaces at will.
        """
        if takes_processors(current) and not is_mlflow_provider(current):
            self._tap = self._join_provider(current)
            warn_of_fork_hook(current)
            self._provider = current
            self._span_starter = SpanStarter(current.get_tracer("mlspan", __version__))
        elif self._followed_provider is None:  # if the provider is unset later, the one that we joined is kept
            if not takes_processors(current) and not isinstance(current, trace.ProxyTracerProvider):
                warn_once(
                    "mlspan: the TracerProvider %s takes no span processor, so mlspan's spans go through a provider of "
                    "its own; set one of opentelemetry.sdk.trace to have them in yours",
                    type(current).__name__,
                )
            self._provider = self._make_own_provider()
            self._span_starter = SpanStarter(self._provider.get_tracer("mlspan", __version__))
            if self.config.global_provider and isinstance(current, trace.ProxyTracerProvider):
                self._followed_provider = current = self._provider  # before it is set, as that tells us of it
                trace.set_tracer_provider(self._provider)
        self._followed_provider = current

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
        with _forwarders_lock:
            tap = _forwarders.find(provider)
            targets = self._select_targets(provider)
            if tap is not None and not tap.is_stale:
                tap.targets = targets
            else:
                tap = _forwarders.join(provider, targets)
        return tap

    def _select_targets(self, provider: trace.TracerProvider) -> tuple[SpanProcessor, ...]:
        """Return the processors for the spans of *provider*: all listeners, and a pipeline if spans are to be sent."""
        by_otlp = needs_otlp(self.config, provider)
        if self._mlflow_sink is None and not by_otlp:
            return tuple(_listeners)
        if by_otlp not in self._pipelines:
            self._pipelines[by_otlp] = make_export_pipeline(
                self.config, self._read_origin, self._mlflow_sink, by_otlp=by_otlp
            )
        return (self._pipelines[by_otlp], *_listeners)

    def update_targets(self) -> None:
        """Set the targets of every provider again, after the listeners have changed."""
        for provider, _ in _forwarders.list_joined():
            self._join_provider(provider)

    def build_run_url(self, experiment_id: str, run_id: str) -> str | None:
        """Return the page of a run in MLflow's own store; None if the store is unknown."""
        from .export.mlflow.sink import run_url

        uri = os.environ.get("MLFLOW_TRACKING_URI") or (
            self._mlflow_sink._uri if self._mlflow_sink is not None else None
        )
        return None if uri is None else run_url(uri, experiment_id, run_id)

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

    def _stop_pipelines(self, timeout: float | None, store_timeout: float) -> None:
        """Stop all pipelines at once, as each may have to wait for a backend."""
        self._stopping_pipelines += [(each, each.request_flush(last=True)) for each in self._pipelines.values()]
        started = time.monotonic()
        for each, flush in self._stopping_pipelines:
            flush.wait(each.choose_exit_timeout(timeout) - (time.monotonic() - started))
        for _, flush in self._stopping_pipelines:
            flush.kept.wait(store_timeout)

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

    def guess_trace_url(self, trace_id: str) -> str | None:
        """Return the page of a trace without asking a server; None if only the experiment's name is known."""
        if self._mlflow_sink is None:
            return None
        from .export.destination import fill_destination
        from .export.mlflow.sink import trace_url

        destination = fill_destination(self._read_origin(), self._mlflow_sink._uri, self.config.experiment, None)
        experiment = destination.experiment_id or destination.experiment_name or ""
        return trace_url(str(destination.tracking_uri), experiment, trace_id) if experiment.isdigit() else None

    def find_trace_url(self, trace_id: str) -> str | None:
        """Return the page of a trace, or None if it cannot be found or MLflow is off. This may ask the server."""
        if self._mlflow_sink is None:
            return None
        from .export.mlflow.sink import trace_url
        from .export.mlflow.store import StoreRejected
        from .export.types import BackendUnavailable

        try:
            (uri, experiment_id), _ = self._mlflow_sink.find_destination(self._read_origin())
        except (BackendUnavailable, StoreRejected) as unknown:
            warn_once("mlspan: no link to the trace: %s", unknown)
            return None
        return trace_url(uri, experiment_id, trace_id)

    def flush(self, timeout: float) -> FlushResult:
        """Send all ended spans, and wait at most *timeout* seconds. Return what has become of them."""
        return _combine_results(self._flush_pipelines(timeout)[0])

    def send_ended(self, timeout: float) -> bool:
        """Send all ended spans. Return whether every backend has them within *timeout* seconds.

        What was set aside or dropped is left for :meth:`flush` to tell.
        """
        return self._flush_pipelines(timeout)[1]

    def _flush_pipelines(self, timeout: float) -> tuple[list[tuple[ExportProcessor, FlushRequest]], bool]:
        """Flush every pipeline and wait. Return the requests, and whether every backend has taken all."""
        until = time.monotonic() + timeout
        self.instruments.record_late_calls()
        asked = list(self._stopping_pipelines)
        asked += [(each, each.request_flush(last=False)) for each in self._pipelines.values()]
        sent = [flush.wait(until - time.monotonic()) for _, flush in asked]  # wait for all, even after a failure
        return asked, all(sent)

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
        self.instruments.record_late_calls()
        self._stop_pipelines(timeout, store_timeout=STORE_TIMEOUT if successor is None or timeout else 0)
        for _, tap in _forwarders.list_joined():
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


def _read_environment() -> dict[str, str]:
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


_forwarders: Final = JoinedProviders()
_forwarders_lock = threading.Lock()
_runtime: Runtime | None = None
_is_shut_down = False
_ending: Runtime | None = None  # one that is being shut down
_SIGNAL_TIMEOUT: Final = 2.0  # seconds that a signal waits, in the middle of a shutdown, until all is on the disk
_runtime_lock = threading.RLock()


def get_runtime() -> Runtime | None:
    """Return the runtime in use, made from the environment if nobody has called configure; None after shutdown."""
    if _runtime is None:
        if not _is_shut_down:
            with guard("reading the settings"):
                start_runtime(resolve_settings({}))
        elif _exit_watcher.has_ended:
            warn_once("mlspan: a span after the end of the program is not recorded; import mlspan before what makes it")
    return _runtime


def resolve_settings(arguments: Mapping[str, object]) -> Config:
    """Return the Config of *arguments*, without the destinations that a test keeps spans away from.

    Raises:
        ValueError: an argument is bad.
    """
    config = resolve_config(arguments)
    return config if _restriction is None else _restriction(config, arguments)


def add_listener(processor: SpanProcessor) -> Callable[[], None]:
    """Give all spans to *processor* too, until the returned function is called.

    *processor* must be quick and wait for nothing.
    """

    def remove_listener() -> None:
        _listeners.remove(processor)
        if _runtime is not None:
            _runtime.update_targets()

    _listeners.append(processor)
    if (now := get_runtime()) is not None:
        now.update_targets()
    return remove_listener


_listeners: list[SpanProcessor] = []


def start_runtime(config: Config) -> Runtime:
    """Make a runtime of *config* the one in use; what the previous one has recorded is sent in the background.

    With the settings of the previous one, in the same environment, nothing changes.
    """
    global _runtime, _is_shut_down  # a process has one configuration
    take_over_recording()
    call_at_retirement(_runtime_lock, _retire_runtime)
    with _runtime_lock:
        if _runtime is not None and (_runtime.config, _runtime.environment) == (config, _read_environment()):
            _runtime.get_tracer()
            return _runtime
        previous, _runtime, _is_shut_down = _runtime, Runtime(config), False
        if previous is None:
            install_until_shutdown("run starts", runs.track_run_starts)
            install_until_shutdown("prompt loads", prompts.track_prompt_loads)
            _exit_watcher.start_watching()
            install_until_shutdown("provider changes", partial(watch_provider_changes, _join_new_provider))
        else:
            _runtime.take_over(previous)
            previous.shutdown(0, successor=_runtime)
        _runtime.get_tracer()
        return _runtime


def _retire_runtime() -> None:
    """Leave the application's providers to another copy of mlspan, and send in the background what was recorded.

    Operations that are open end as usual: in the application's provider, whose spans the other copy sends, or in ours.
    """
    now = _runtime
    if now is None:
        return
    now.save_to_disk(1.0)
    now.start_flush()
    with _forwarders_lock:
        for provider, _ in _forwarders.list_joined():
            if provider is not now._own_provider:
                _forwarders.leave(provider)
    _exit_watcher.stop_watching()
    _exit_watcher.register_exit_handler()  # what is not sent by then is sent at the end of the process
    undo_at_shutdown()


def _join_new_provider() -> None:
    """Join the provider that the application has just set, so that its first spans are recorded too."""
    if _runtime is not None:
        _runtime.get_tracer()


def resume_recording() -> None:
    """Record again after a shutdown, and join the application's TracerProvider now rather than at the first call."""
    global _is_shut_down
    _is_shut_down = False
    if (now := get_runtime()) is not None:
        now.get_tracer()


def stop_runtime(timeout: float | None) -> FlushResult:
    """Send what has been recorded and record no more. Return what has become of it.

    A *timeout* of None waits as long as the sinks ask for at the end of the process.
    """
    global _runtime, _is_shut_down, _ending
    with _runtime_lock:
        previous, _runtime, _is_shut_down = _runtime, None, True
    if previous is None and _ending is not None:  # a signal, in the middle of the call below
        _ending.store_before_signal(_SIGNAL_TIMEOUT)
        return FlushResult()
    _ending = previous
    try:
        result = FlushResult() if previous is None else previous.shutdown(timeout)
    except KeyboardInterrupt:
        if previous is not None:
            previous.store_before_signal(_SIGNAL_TIMEOUT)
            previous.log_unsent()
        raise
    finally:
        _ending = None
        _exit_watcher.stop_watching()
    undo_at_shutdown()
    return result


class SavedRuntime(NamedTuple):
    """The state that :func:`replace_runtime` has replaced."""

    runtime: Runtime | None
    is_shut_down: bool
    restriction: Restriction | None
    forwarders: tuple[ForwardingProcessor, ...]


Restriction = Callable[[Config, Mapping[str, Any]], Config]  # given a Config and the arguments that it was made from
_restriction: Restriction | None = None  # applies to every Config that this process resolves


def replace_runtime(restriction: Restriction) -> SavedRuntime:
    """Make a runtime whose Config passes *restriction* the one in use, until :func:`restore_runtime` is called.

    The previous runtime is kept, and goes on sending what it has recorded.
    """
    global _runtime, _restriction
    with _runtime_lock:
        previous = _runtime
        saved = SavedRuntime(previous, _is_shut_down, _restriction, _forwarders.list_processors())
        config = resolve_config({}) if previous is None else previous.config
        if previous is not None:
            previous.start_flush()
        _runtime, _restriction = None, restriction
        start_runtime(restriction(config, {}))
    return saved


def restore_runtime(saved: SavedRuntime) -> None:
    """Put the runtime back that *saved* has, and leave the providers that were joined since."""
    global _runtime, _is_shut_down, _restriction
    with _runtime_lock:
        current, _runtime, _restriction = _runtime, saved.runtime, saved.restriction
        if current is not None:
            current.shutdown(5, successor=saved.runtime, finish_operations=False)
        for provider, tap in _forwarders.list_joined():
            if tap not in saved.forwarders:
                _forwarders.leave(provider)
        _is_shut_down = saved.is_shut_down
        if saved.runtime is None:
            _exit_watcher.stop_watching()
            return
        _exit_watcher.start_watching()
        saved.runtime.update_targets()


def _save_to_disk() -> None:
    """Write all ended spans to disk, within a second."""
    if _runtime is not None:
        _runtime.save_to_disk(1.0)


_exit_watcher = ExitWatcher(partial(stop_runtime, None), _save_to_disk)
_exit_watcher.register_exit_handler()  # now: Python calls no handler that is registered while it calls them
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_exit_watcher.handle_fork)


def drain_spools(
    config: Config, tracking_uri: str | None, timeout: float, progress: Callable[[DrainResult], object] | None
) -> DrainResult:
    """Drain the spools, as :func:`mlspan.tracing.drain` describes, after sending what this process has waiting."""
    from .export.spool.drain import drain_folder
    from .export.trusted_hosts import trust_host

    trust_host("mlflow", config.tracking_uri)
    trust_host("otlp", config.otlp_endpoint)
    if _runtime is not None:
        _runtime.send_ended(max(timeout, 5.0))
    return drain_folder(make_spool_settings(config), partial(open_sink, tracking_uri=tracking_uri), timeout, progress)


def _make_origin_reader(config: Config) -> Callable[[], TraceOrigin]:
    """Return a function that reads what the caller's context says and *config* does not set."""
    return partial(
        runs.read_trace_origin,
        tracking_uri=config.tracking_uri is None,
        experiment=config.experiment is None,
        tags={as_text(key): as_text(value) for key, value in (config.tags or {}).items()},
    )
