"""One trace for MLflow's spans and ours: each side's current span is the parent of what the other starts.

MLflow keeps its current span in a context of its own, beside OpenTelemetry's, and stores its spans itself. Here each
context learns of the other. Below a span of MLflow's, ours have a remote parent, and are a part of its trace, which the
store puts together like the parts of several processes. Below a span of ours, MLflow finds that span in its own context
(see ``shared_spans.py``).

The link is off while mlspan sends its traces to another MLflow than MLflow does, or to none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Token
from dataclasses import replace
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from ..._guard import guard
from ..._import_waiting import patch_when_imported
from ..._patching import Patch, Undo, resolve_target, set_attribute
from ..operations.call_context import (
    CallScope,
    detach_context,
    enter_scope,
    get_call_scope,
    leave_scope,
    mark_trace_joined,
)
from .shared_spans import find_trace_experiment, is_shareable, share_span

if TYPE_CHECKING:
    from ..configured_runtime import Runtime

_PROVIDER_MODULE: Final = "mlflow.tracing.provider"
_LOSS: Final = "that MLflow's own spans and mlspan's are in one trace"


class _MlflowParent(NonRecordingSpan):
    """The span that OpenTelemetry's context holds while a span of MLflow's is current."""


class _LinkedToken(NamedTuple):
    """A token that detaches a span of MLflow's from both contexts."""

    own: object  # MLflow's token
    token: Token[otel.Context]
    context: otel.Context
    scope_token: Token[CallScope]
    scope: CallScope


def link_contexts(get_runtime: Callable[[], Runtime | None]) -> Undo:
    """Link MLflow's context with OpenTelemetry's, once MLflow is imported, until the returned function is called."""
    # Before 3.9 MLflow had no context of its own: its current span is in OpenTelemetry's, and below it ours are.
    patch = Patch(
        f"{_PROVIDER_MODULE}:mlflow_runtime_context",
        partial(_link, get_runtime=get_runtime),
        _LOSS,
        is_optional=True,
    )
    return patch_when_imported([patch])


def _link(target: str, get_runtime: Callable[[], Runtime | None]) -> Undo:
    """Replace the three methods of MLflow's runtime context, on the object, as other modules have it by name."""
    runtime_context: Any = getattr(*resolve_target(target))
    # The methods of its class: a block that a shutdown has found open may have left ours on the object.
    own_class: Any = type(runtime_context)
    attach, detach = MethodType(own_class.attach, runtime_context), MethodType(own_class.detach, runtime_context)
    get_current = MethodType(own_class.get_current, runtime_context)
    attached: list[None] = []  # one for each block that is open

    def attach_to_both(context: otel.Context) -> object:
        own = attach(context)
        with guard("following a span of MLflow's"):
            linked = _enter_mlflow_span(own, context, get_runtime())
            if linked is not own:
                attached.append(None)
            return linked
        return own

    def detach_from_both(token: Any) -> None:
        if isinstance(token, _LinkedToken):
            attached.pop()
            leave_scope(token.scope_token, token.scope)
            detach_context(token.token, token.context)
            token = token.own
        detach(token)

    def get_inner_context() -> otel.Context:
        own: otel.Context = get_current()
        with guard("showing a span to MLflow"):
            return _show_current_span(own, get_runtime())
        return own

    undo_attach = set_attribute(runtime_context, "attach", attach_to_both)
    undo_detach = set_attribute(runtime_context, "detach", detach_from_both)
    undo_get_current = set_attribute(runtime_context, "get_current", get_inner_context)

    def unlink() -> None:
        undo_get_current()
        undo_attach()
        if not attached:  # else a block that is open has a token of ours
            undo_detach()

    return unlink


def _enter_mlflow_span(own: object, context: otel.Context, now: Runtime | None) -> object:
    """Make MLflow's span in *context* the remote parent of what starts below it here, and return what ends that.

    Return *own*, MLflow's token, where a span of the application's that is not ours is current: its trace is another.
    """
    ids: Any = trace.get_current_span(context).get_span_context()
    around = otel.get_current()
    outer = trace.get_current_span(around)
    is_foreign = outer.is_recording() and not is_shareable(outer)
    if ids is None or not ids.is_valid or is_foreign or ids.span_id == outer.get_span_context().span_id:
        return own  # MLflow's span that is not recorded may have no ids at all
    if now is None or not now.shares_mlflow:
        return own
    parent = SpanContext(ids.trace_id, ids.span_id, is_remote=True, trace_flags=ids.trace_flags)
    here = trace.set_span_in_context(_MlflowParent(parent), around)
    scope = replace(get_call_scope(), experiment_id=find_trace_experiment(ids.trace_id))
    mark_trace_joined(ids.trace_id)
    return _LinkedToken(own, otel.attach(here), here, enter_scope(scope), scope)


def _show_current_span(own: otel.Context, now: Runtime | None) -> otel.Context:
    """Return MLflow's context with the span of ours that is current inside it, if one is."""
    current = trace.get_current_span()
    if isinstance(current, _MlflowParent) or not is_shareable(current) or now is None or not now.shares_mlflow:
        return own
    return trace.set_span_in_context(share_span(current, now), own)
