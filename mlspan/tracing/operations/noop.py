"""No-op operations, which stand in for an operation if nothing is recorded."""

from __future__ import annotations

from opentelemetry import context as otel
from opentelemetry.trace import Span, set_span_in_context

from .call_context import detach_context


class NoOpOperation:
    """An operation without record and span: every method lets the caller through."""

    __slots__ = ()

    def __enter__(self) -> NoOpOperation:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object, /) -> None: ...

    def record_result(self, value: object, *, awaited: bool = False) -> object:  # noqa: ARG002  # as of an operation
        """Return *value* as it is."""
        return value


NOOP_OPERATION = NoOpOperation()


class UnsampledOperation(NoOpOperation):
    """A no-op operation at the root of a trace that the sampler has dropped.

    Its span is current inside the block, so that calls below know that they are not sampled either.
    """

    __slots__ = ("_context", "_token")

    def __init__(self, span: Span) -> None:
        self._context = set_span_in_context(span)

    def __enter__(self) -> UnsampledOperation:
        self._token = otel.attach(self._context)
        return self

    def __exit__(self, *_: object) -> None:
        detach_context(self._token, self._context)
