"""Hold back the spans that a library opens itself, while mlspan records the same operations."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

from opentelemetry import trace

from .hook import Hook
from .patching import Undo, replace_function


def suppress_own_spans(
    hook: Hook, helpers: Iterable[str], applies: Callable[[tuple[Any, ...]], bool] = lambda _: True
) -> Iterator[tuple[str, Callable[[], Undo]]]:
    """Yield patches, for :func:`apply_patches`, that stop a library's own *helpers* from opening a span.

    A helper is a function that returns a context manager around the operation, whose value is the span. While mlspan
    records, it returns one around a span that is not recorded. A helper is best named at the place that uses it, as an
    application that imports it from elsewhere then keeps its spans.

    Args:
        hook: the hook whose settings decide if mlspan records.
        helpers: the functions that open spans, as ``module:function`` or ``module:Class.method``.
        applies: given the arguments of a helper, returns whether mlspan records that operation.
    """

    def wrap_helper(own: Any) -> Any:
        @functools.wraps(own)
        def open_span(*args: Any, **kwargs: Any) -> Any:
            recorded = hook.should_record() and applies(args)
            return nullcontext(trace.INVALID_SPAN) if recorded else own(*args, **kwargs)

        return open_span

    for target in helpers:
        yield target, functools.partial(replace_function, target, wrap_helper)
