"""Hold back the spans that a library opens itself, while mlspan records the same operations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry import trace

from .._shape import get_field, get_nested
from ..tracing.otel.provider import takes_processors
from .hook import Hook
from .patching import Patch, replace_function


def make_unrecorded_span() -> trace.Span:
    """Return a span that records nothing, with the ids of the current one, so that requests still propagate those."""
    return trace.NonRecordingSpan(trace.get_current_span().get_span_context())


def make_unrecorded_context() -> AbstractContextManager[trace.Span]:
    """Return a context manager whose value is a span that records nothing."""
    return nullcontext(trace.INVALID_SPAN)


def is_request_recorded() -> bool:
    """Return whether the current span is mlspan's of a request, or one that the sampler has left out.

    It is not where the request's operation could not be started: the library's own span is then the only one.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        context = span.get_span_context()
        return context.is_valid and not context.trace_flags.sampled
    is_ours = get_nested(span, "instrumentation_scope.name", str) == "mlspan"
    return is_ours and get_field(span, "kind") is trace.SpanKind.CLIENT  # an agent's span around it is of another kind


def suppress_own_spans(
    hook: Hook,
    helpers: Iterable[str],
    *,
    applies: Callable[[tuple[object, ...]], bool] = lambda _: True,
    instead: Callable[[], object] = make_unrecorded_context,
) -> Iterator[Patch]:
    """Yield patches, for :func:`apply_patches`, that stop a library's own *helpers* from opening a span.

    A helper is best named at the place that uses it: an application that imports it from elsewhere then keeps its
    spans. Where the global TracerProvider takes no span processor, mlspan's spans do not go there, and nothing is
    stopped.

    Args:
        hook: the hook whose settings decide if mlspan records.
        helpers: the functions that open spans, as ``module:function`` or ``module:Class.method``.
        applies: given the arguments of a helper, returns whether mlspan records that operation.
        instead: returns what a helper returns while mlspan records: :func:`make_unrecorded_context` for one that is a
            context manager, :func:`make_unrecorded_span` for one that returns the span.
    """

    def wrap_helper(own: Any) -> object:
        @functools.wraps(own)
        def open_span(*args: Any, **kwargs: Any) -> object:
            return instead() if hook.should_record() and _is_shared() and applies(args) else own(*args, **kwargs)

        return open_span

    for target in helpers:
        loss = "nothing, but the library's own span stands beside ours"
        yield Patch(target, functools.partial(replace_function, make=wrap_helper), loss)


def _is_shared() -> bool:
    """Return whether spans of the global TracerProvider and mlspan's go to the same place, or nowhere."""
    provider = trace.get_tracer_provider()
    return takes_processors(provider) or isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider))
