"""The runtime in use: made from the settings at the first need, replaced by ``configure``, stopped at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.trace import SpanProcessor

from .._copies import call_at_retirement, take_over_recording
from .._guard import guard, warn_once
from .._patching import install_until_shutdown, undo_at_shutdown
from .configured_runtime import Runtime, forwarders, listeners, read_environment
from .destinations import make_spool_settings, open_sink
from .exit_handler import register_exit_handler
from .exit_watcher import ExitWatcher
from .export.flush_result import FlushResult
from .mlflow_state import prompts, runs
from .mlflow_state.context_link import link_contexts
from .mlflow_state.destinations import track_destinations
from .mlflow_state.ended_traces import serve_ended_traces
from .mlflow_state.evaluation import follow_evaluations
from .otel.provider import (
    ForwardingProcessor,
    watch_provider_changes,
)
from .settings.config import Config
from .settings.resolution import resolve_config

if TYPE_CHECKING:
    from .export.spool.drain import DrainResult


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


def peek_runtime() -> Runtime | None:
    """Return the runtime in use, and make none."""
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
        listeners.remove(processor)
        if _runtime is not None:
            _runtime.update_targets()

    listeners.append(processor)
    if (now := get_runtime()) is not None:
        now.update_targets()
    return remove_listener


def start_runtime(config: Config) -> Runtime:
    """Make a runtime of *config* the one in use; what the previous one has recorded is sent in the background.

    With the settings of the previous one, in the same environment, nothing changes.
    """
    global _runtime, _is_shut_down  # a process has one configuration
    take_over_recording()
    call_at_retirement(_runtime_lock, _retire_runtime)
    with _runtime_lock:
        if _runtime is not None and (_runtime.config, _runtime.environment) == (config, read_environment()):
            _runtime.get_tracer()
            return _runtime
        previous, _runtime, _is_shut_down = _runtime, Runtime(config), False
        if previous is None:
            install_until_shutdown("run starts", runs.track_run_starts)
            install_until_shutdown("prompt loads", prompts.track_prompt_loads)
            install_until_shutdown("destinations", track_destinations)
            install_until_shutdown("MLflow's context", partial(link_contexts, get_runtime))
            install_until_shutdown("evaluations", follow_evaluations)
            install_until_shutdown("ended traces", partial(serve_ended_traces, get_runtime, add_listener))
            _exit_watcher.start_watching()
            install_until_shutdown("provider changes", partial(watch_provider_changes, _join_new_provider))
        else:
            _runtime.take_over(previous)
            previous.shutdown(0, successor=_runtime)
            _runtime.join_library_providers_of(previous)
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
    now.leave_application_providers()
    _exit_watcher.stop_watching()
    register_exit_handler()  # what is not sent by then is sent at the end of the process
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
        saved = SavedRuntime(previous, _is_shut_down, _restriction, forwarders.list_processors())
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
        for provider, tap in forwarders.list_joined():
            if tap not in saved.forwarders:
                forwarders.leave(provider)
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


def _postpone_signal(number: int) -> bool:
    """Return whether the signal *number* has interrupted this thread while it stores spans, and waits for that."""
    return any(each is not None and each.postpone_signal(number) for each in (_runtime, _ending))


def handle_exit() -> None:
    """Send all spans at the end of the process."""
    _exit_watcher.handle_exit()


_exit_watcher = ExitWatcher(partial(stop_runtime, None), _save_to_disk, _postpone_signal)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_exit_watcher.handle_fork)
    _exit_watcher.fork_signals.register()  # last, so that these run before and after all others of ours


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
