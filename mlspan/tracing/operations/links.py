"""Links between spans: all of them are made here, when the span of an operation ends.

A record says two things with :meth:`~mlspan.tracing.operations.records.Record.add_cause` and
:meth:`~mlspan.tracing.operations.records.Record.add_offer`:

- what caused its operation: a span that the integration knows, such as that of the graph's node before it, or a
  reference to something that an earlier operation offers;
- what it offers: something that a later operation will refer to, such as the id of a tool call that a model has
  requested, the id of a message, or the name of the agent that a tool hands over to.

A reference is looked up in the operation's own trace first, because servers that count from one repeat their ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from opentelemetry.trace import Span, SpanContext

from ..._bounded import BoundedDict
from . import semconv as sc

_MAX_OFFERS: Final = 20_000  # each offer that other traces may refer to counts twice
_ANY_TRACE: Final = 0

_offering_spans: Final[BoundedDict[tuple[int, str, str], SpanContext]] = BoundedDict(_MAX_OFFERS)  # trace, kind, key


class Cause(NamedTuple):
    """The cause of an operation: a span, or a reference to an offer."""

    kind: str  # of the link: asked_by, handed_off_by, triggered_by, resumes, trained_by
    origin: SpanContext | str  # the span, or the key of the offer
    once: bool = False  # the offer holds for a single operation of its trace, the first that refers to it


class Offer(NamedTuple):
    """Something of an operation that later operations refer to by *key*."""

    kind: str
    key: str
    anywhere: bool = True  # operations of other traces may refer to it too
    is_repeated: bool = False  # somebody else may have offered it already, who is then the origin


class LinkedRecord(Protocol):
    """A record, as this module reads it."""

    def list_causes(self) -> Sequence[Cause]: ...
    def list_offers(self) -> Sequence[Offer]: ...


def link_span(span: Span, record: LinkedRecord) -> None:
    """Link *span* to the causes of *record*, and remember what the record offers."""
    causes, offers = record.list_causes(), record.list_offers()
    if not causes and not offers:  # as most have neither
        return
    here = span.get_span_context()
    for cause in causes:
        if (origin := _find_origin(cause, here.trace_id)) is not None:
            span.add_link(origin, {sc.LINK: cause.kind})
    for kind, key, anywhere, is_repeated in offers:
        if is_repeated and (_ANY_TRACE, kind, key) in _offering_spans:
            continue
        _offering_spans[here.trace_id, kind, key] = here
        if anywhere:
            _offering_spans[_ANY_TRACE, kind, key] = here


def _find_origin(cause: Cause, trace_id: int) -> SpanContext | None:
    """Return the span of a cause; None if it refers to something that no operation of this process offers."""
    kind, origin, once = cause
    if not isinstance(origin, str):
        return origin
    if once:
        return _offering_spans.pop((trace_id, kind, origin), None)
    return _offering_spans.get((trace_id, kind, origin)) or _offering_spans.get((_ANY_TRACE, kind, origin))
