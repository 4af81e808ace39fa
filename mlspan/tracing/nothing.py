"""What stands in for a Live where nothing is to be recorded."""

from __future__ import annotations

from typing import Any

from opentelemetry import context as otel
from opentelemetry.trace import Span, set_span_in_context

from .context import detach


class Nothing:
    """Every method lets the caller through."""

    __slots__ = ()

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None: ...

    def result(self, value: Any) -> Any:
        return value


NOTHING = Nothing()


class Dropped(Nothing):
    """At the root of a trace that the sampler has dropped, which what is below has to know."""

    __slots__ = ("_context", "_token")

    def __init__(self, span: Span) -> None:
        self._context = set_span_in_context(span)

    def __enter__(self) -> Dropped:
        self._token = otel.attach(self._context)
        return self

    def __exit__(self, *_: object) -> None:
        detach(self._token, self._context)
