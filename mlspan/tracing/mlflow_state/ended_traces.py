"""Traces of ours for those who ask MLflow for them by their id, right after they have ended.

MLflow's client reads a store, and what has just ended is not there yet. So a read, a tag or an assessment of such a
trace waits until it is stored, for a bounded time.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ..._bounded import BoundedDict
from ..._guard import guard
from ..._import_waiting import install_when_imported, patch_when_imported
from ..._patching import Patch, Undo, apply_patches, replace_method
from ..._private_names import report_missing_name
from ..operations.suppression import is_suppressed
from .shared_spans import forget_trace, has_ended_here

if TYPE_CHECKING:
    from ..configured_runtime import Runtime

_FLUENT_MODULE: Final = "mlflow.tracing.fluent"
_CLIENT_MODULE: Final = "mlflow.tracing.client"
_PROCESSOR_MODULE: Final = "mlflow.tracing.processor.base_mlflow"
_LOSS: Final = "that MLflow's functions wait for a trace that has just ended"
_MOST_WAITED: Final = 30.0  # seconds that a read waits for a trace to be stored
_FLUSH: Final = "flush_all_batch_processors"  # all flushes of MLflow call it, by its module: nobody keeps our wrapper
_METHODS: Final = ("get_trace", "get_trace_info", "set_trace_tag", "delete_trace_tag", "log_assessment")
# Private names of MLflow, each with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_set_last_active_trace_id": "mlflow.get_last_active_trace_id() does not know mlspan's traces",
}


class _EndedTraces(SpanProcessor):
    """Notes which traces have ended here, and tells MLflow which was the last."""

    def __init__(self) -> None:
        self.unsent: BoundedDict[int, None] = BoundedDict(1000)

    def on_end(self, span: ReadableSpan) -> None:
        """Note the trace of a span of ours."""
        scope, ids = span.instrumentation_scope, span.get_span_context()
        if scope is None or scope.name != "mlspan" or ids is None:
            return
        self.unsent[ids.trace_id] = None
        set_last = getattr(sys.modules.get(_FLUENT_MODULE), "_set_last_active_trace_id", None)
        if set_last is None:
            report_missing_name("MLflow", "_set_last_active_trace_id", PRIVATE_NAMES["_set_last_active_trace_id"])
        else:
            set_last(f"tr-{ids.trace_id:032x}")


def serve_ended_traces(
    get_runtime: Callable[[], Runtime | None], add_listener: Callable[[SpanProcessor], Undo]
) -> Undo:
    """Have MLflow's functions find traces of ours, once it is imported, until the returned function is called."""
    ended = _EndedTraces()
    methods, flush = _make_client_patches(ended, get_runtime)

    def install() -> Undo:
        with ExitStack() as undo:
            undo.callback(add_listener(ended))
            undo.callback(apply_patches(methods))
            return undo.pop_all().close

    with ExitStack() as undo:
        undo.callback(install_when_imported(_FLUENT_MODULE, install))
        undo.callback(patch_when_imported([flush]))
        return undo.pop_all().close


def _make_client_patches(ended: _EndedTraces, get_runtime: Callable[[], Runtime | None]) -> tuple[list[Patch], Patch]:
    """Return the patches of MLflow's client, and that of its flush, which older versions lack."""

    def wait_for_trace(trace_id: object) -> None:
        _wait_until_stored(ended, get_runtime(), trace_id)

    def make_waiting(original: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call_method(self: object, *args: object, **kwargs: object) -> object:
            if enabled and ended.unsent:
                with guard("waiting for a trace that MLflow's client asks for"):
                    wait_for_trace(kwargs.get("trace_id", args[0] if args else None))
            return original(self, *args, **kwargs)

        return call_method

    def make_flushing(original: Callable[..., Any], enabled: list[bool]) -> Callable[..., Any]:
        @functools.wraps(original)
        def flush_all(*args: object, **kwargs: object) -> object:
            if enabled and ended.unsent:
                with guard("flushing with MLflow"):
                    wait_for_trace(None)
            return original(*args, **kwargs)

        return flush_all

    methods = [
        Patch(f"{_CLIENT_MODULE}:TracingClient.{name}", lambda target: replace_method(target, make_waiting), _LOSS)
        for name in _METHODS
    ]
    flush = Patch(
        f"{_PROCESSOR_MODULE}:{_FLUSH}",
        lambda target: replace_method(target, make_flushing),
        "that a flush of MLflow's flushes mlspan's spans too",
        is_optional=True,
    )
    return methods, flush


def _wait_until_stored(ended: _EndedTraces, now: Runtime | None, trace_id: object) -> None:
    """Send what has ended, if the trace is one of those; None stands for any. Our own threads wait for nothing."""
    if now is None or is_suppressed():
        return
    if trace_id is not None:
        number = str(trace_id).removeprefix("tr-")
        if len(number) != 32 or int(number, 16) not in ended.unsent:
            return
        if has_ended_here(int(number, 16)):
            flush = getattr(sys.modules.get("mlflow"), "flush_trace_async_logging", None)
            if flush is not None:
                flush()
            forget_trace(int(number, 16))
    waited_for = list(ended.unsent)
    now.send_to_mlflow(_MOST_WAITED)
    for each in waited_for:  # only now, as other threads wait for them too
        ended.unsent.pop(each, None)
