"""Spans of ours as MLflow's functions see them: ``mlflow.get_current_active_span()``, ``mlflow.update_current_trace``.

MLflow looks its current span up in the traces that it keeps in memory. A span of ours is put there when MLflow asks for
the current span, and not before: a program that does not ask pays nothing. What MLflow's functions write to the span
stands on the span; what they write to the trace, and the assessments that they add to it, is told by the span when it
ends.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from collections import deque
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span

from ..._bounded import BoundedDict
from ..._guard import guard
from ..operations import semconv as sc
from ..operations.call_context import mark_trace_joined, mark_trace_shared
from ..operations.content import to_attribute
from .trace_updates import write_trace_updates

if TYPE_CHECKING:
    from ..configured_runtime import Runtime
    from ..operations.content import ContentPolicy

_MANAGER_MODULE: Final = "mlflow.tracing.trace_manager"
_REQUEST_ID: Final = "mlflow.traceRequestId"
_SPAN_TYPE: Final = "mlflow.spanType"
_CONTENT: Final = {"mlflow.spanInputs": sc.INPUT, "mlflow.spanOutputs": sc.OUTPUT}
_FORGET_AFTER: Final = 120.0  # seconds that MLflow's own spans of a trace may take to be stored after ours have ended


class _OwnTrace:
    """A trace that begins with us, as MLflow has it in memory."""

    def __init__(self, info: Any) -> None:
        self.info = info  # MLflow's TraceInfo
        self.open_spans = 0  # spans of ours that MLflow has seen


_own_traces: Final[BoundedDict[int, _OwnTrace]] = BoundedDict(1000)  # by trace id
_ended_traces: Final[deque[tuple[float, int]]] = deque()  # when the last of our spans ended, and the trace's id


_lock = threading.RLock()


def _renew_lock() -> None:
    """Replace the lock in a forked child, as its owner may be a thread that does not exist there."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def get_trace_manager() -> Any:
    """Return the object in which MLflow keeps the traces that are open; None if MLflow is not imported."""
    manager = getattr(sys.modules.get(_MANAGER_MODULE), "InMemoryTraceManager", None)
    return None if manager is None else manager.get_instance()


def find_trace_experiment(trace_id: int) -> str | None:
    """Return the experiment of a trace that MLflow has open, or None."""
    manager = get_trace_manager()
    with manager.get_trace(manager.get_mlflow_trace_id_from_otel_id(trace_id)) as found:
        if found is None or found.info.trace_location is None:
            return None
        experiment_id: str | None = found.info.experiment_id
        return experiment_id


def is_shareable(span: Span) -> bool:
    """Return whether *span* is an open span of a trace that mlspan stores: one of ours, or a GenAI span of others."""
    if not isinstance(span, ReadableSpan) or not span.is_recording():
        return False
    scope = span.instrumentation_scope
    if scope is not None and scope.name == "mlspan":
        return True
    return any(name.startswith(("gen_ai.", "mlspan.")) for name in span.attributes or ())


def share_span(span: Any, now: Runtime) -> Span:
    """Return the view of *span* that MLflow's functions get; MLflow's spans that start now are below it."""
    from mlflow.entities import LiveSpan

    with _lock:  # two threads that register one trace lose what MLflow has noted of it between
        known = vars(span).get("end")
        return known.view if isinstance(known, _SharedEnd) else _share_span(span, now, LiveSpan)


def _share_span(span: Any, now: Runtime, live_span: Any) -> Span:
    """Put *span* where MLflow looks for its own, as a *live_span* of MLflow's."""
    _forget_ended_traces()
    manager, ids = get_trace_manager(), span.get_span_context()
    trace_id = manager.get_mlflow_trace_id_from_otel_id(ids.trace_id)
    if trace_id is None:
        trace_id = _register_trace(manager, ids.trace_id, now)
    view: Any = object.__new__(_make_view_class(type(span)))  # type: ignore[arg-type]  # mypy: type[Any] is not hashable
    vars(span)["shared_trace_id"], vars(span)["shared_policy"] = json.dumps(trace_id), now.policy
    view.__dict__ = vars(span)  # one state: what is written to one is written to both
    manager.register_span(live_span(view, trace_id))
    if (own := _own_traces.get(ids.trace_id)) is not None:
        own.open_spans += 1
    span.end = _SharedEnd(span, view, trace_id)
    return view  # type: ignore[no-any-return]


def _register_trace(manager: Any, trace_id: int, now: Runtime) -> str:
    """Tell MLflow of a trace that begins with us, and return the id that it has there."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    experiment_id = now.page_urls.find_experiment_id()
    info = TraceInfo(
        trace_id=f"tr-{trace_id:032x}",
        trace_location=None if experiment_id is None else TraceLocation.from_experiment_id(experiment_id),
        request_time=int(time() * 1000),
        state=TraceState.IN_PROGRESS,
    )
    manager.register_trace(trace_id, info)
    _own_traces[trace_id] = _OwnTrace(info)
    mark_trace_shared(trace_id)
    mark_trace_joined(trace_id)
    return info.trace_id  # type: ignore[no-any-return]


def _forget_ended_traces() -> None:
    """Take traces of ours out of MLflow's memory, some time after they have ended: its exporter still needs them."""
    while _ended_traces and monotonic() - _ended_traces[0][0] > _FORGET_AFTER:
        forget_trace(_ended_traces.popleft()[1])


def forget_trace(trace_id: int) -> bool:
    """Take a trace of ours that has ended out of MLflow's memory, where it counts as open. Return whether it was."""
    own = _own_traces.get(trace_id)
    if own is None or own.open_spans > 0:
        return False
    _own_traces.pop(trace_id, None)
    get_trace_manager().pop_trace(trace_id)
    return True


def has_ended_here(trace_id: int) -> bool:
    """Return whether MLflow still has a trace of ours in memory whose spans of ours have ended."""
    own = _own_traces.get(trace_id)
    return own is not None and own.open_spans <= 0


class _SharedEnd:
    """The ``end`` of a span that MLflow has seen."""

    def __init__(self, span: Any, view: Span, trace_id: str) -> None:
        self.span, self.view, self.trace_id = span, view, trace_id

    def __call__(self, end_time: int | None = None) -> None:
        """Write what MLflow's functions have told of the trace, and end the span."""
        own = vars(self.span)
        own.pop("end", None)
        policy = own.pop("shared_policy", None)
        own.pop("shared_trace_id", None)
        with guard("telling what MLflow has written to a trace"):
            self._write_updates(policy)
        self.span.end(end_time)

    def _write_updates(self, policy: ContentPolicy | None) -> None:
        ids = self.span.get_span_context()
        has_spans = False
        with get_trace_manager().get_trace(self.trace_id) as found:
            if found is not None:
                found.span_dict.pop(f"{ids.span_id:016x}", None)
                has_spans = bool(found.span_dict)
        if (own := _own_traces.get(ids.trace_id)) is None or policy is None:
            return
        with _lock:
            own.open_spans -= 1
        write_trace_updates(self.span, own.info, policy)
        if has_spans:  # MLflow's exporter has yet to store them
            _ended_traces.append((monotonic(), ids.trace_id))
        else:
            forget_trace(ids.trace_id)


@functools.lru_cache(maxsize=16)
def _make_view_class(span_class: type) -> type:
    """Return the class of the views of spans of *span_class*."""
    return type("SharedSpan", (_SharedView, span_class), {})


class _SharedView:
    """The part of a span that MLflow's ``LiveSpan`` reads and writes: MLflow's names, with values as JSON text."""

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the span's attributes, with those that MLflow expects."""
        found = {**super().attributes}  # type: ignore[misc]  # of the span's class
        found[_REQUEST_ID] = vars(self).get("shared_trace_id", "null")
        for name, own in _CONTENT.items():
            if own in found:
                found[name] = found[own]
        return found

    def set_attribute(self, key: str, value: object) -> None:
        """Write an attribute of MLflow's, whose *value* is JSON text, as one of the span's own."""
        if key == _REQUEST_ID:
            return
        write = super().set_attribute  # type: ignore[misc]
        if key == _SPAN_TYPE:
            kind = _decode_json(value)
            if isinstance(kind, str) and kind != "UNKNOWN" and sc.OPERATION not in self.attributes:
                write(sc.KIND, kind.lower())
        elif key in _CONTENT:
            policy = vars(self).get("shared_policy")
            if policy is not None and policy.on_spans:
                write(_CONTENT[key], policy.render_json(_decode_json(value)))
        elif key.startswith("mlflow."):
            write(key, value)
        else:
            write(key, to_attribute(_decode_json(value)))


def _decode_json(value: object) -> object:
    """Return what the JSON text *value* says, or *value* itself if it is none."""
    with suppress(TypeError, ValueError):
        value = json.loads(value)  # type: ignore[arg-type]  # a TypeError is suppressed
    return value
