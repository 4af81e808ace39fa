"""Frozen spans: ended spans that are quick to read.

The SDK's own wrap their contents and take a lock on each read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status

from .compat import report_missing

if TYPE_CHECKING:
    from typing_extensions import Self

EMPTY_RESOURCE: Final = Resource({})
_NO_ATTRIBUTES: Final[Mapping[str, object]] = {}
_KNOWN_FIELDS: Final = (  # those that are replaced, and what names the span
    *("_name", "_context", "_kind", "_parent", "_resource", "_start_time", "_end_time"),
    *("_attributes", "_events", "_links", "_status", "_instrumentation_scope"),
)
_ALL_FIELDS: Final = vars(ReadableSpan("", resource=EMPTY_RESOURCE)).keys()
_MISSING: Final = [name for name in _KNOWN_FIELDS if name not in _ALL_FIELDS]
for _name in _MISSING:
    report_missing(_name)
_FIELD_NAMES: Final = tuple(_ALL_FIELDS - {"_events", "_links"})
_read_fields: Final = attrgetter(*_FIELD_NAMES)


class FrozenSpan(ReadableSpan):
    """An ended span with its attributes in a plain dict. Nothing changes it any more."""

    if not _MISSING:  # each is read in C, in three quarters of the time of the SDK's functions
        attributes = property(attrgetter("_attributes"))
        events = property(attrgetter("_events"))
        links = property(attrgetter("_links"))
        name = property(attrgetter("_name"))
        kind = property(attrgetter("_kind"))
        parent = property(attrgetter("_parent"))
        status = property(attrgetter("_status"))
        resource = property(attrgetter("_resource"))
        start_time = property(attrgetter("_start_time"))
        end_time = property(attrgetter("_end_time"))
        instrumentation_scope = property(attrgetter("_instrumentation_scope"))
        dropped_attributes = dropped_events = dropped_links = 0

    @classmethod
    def from_span(
        cls,
        span: ReadableSpan,
        *,
        name: str,
        attributes: Mapping[str, object] | None,
        events: Sequence[Event],
        links: Sequence[Link],
        resource: Resource,
        status: Status,
    ) -> Self:
        """Return *span* as a frozen span with these parts in place of its own."""
        if _MISSING:
            return cls._copy_publicly(span, name, attributes, events, links, resource, status)
        made = object.__new__(cls)
        fields = vars(span) if isinstance(span, FrozenSpan) else dict(zip(_FIELD_NAMES, _read_fields(span)))  # noqa: B905  # both have the same length
        made.__dict__ = {
            **fields,
            "_name": name,
            "_attributes": attributes,
            "_events": events,
            "_links": links,
            "_resource": resource,
            "_status": status,
        }
        return made

    @classmethod
    def copy_span(
        cls, span: ReadableSpan, *, attributes: Mapping[str, object] | None = None, without_parent: bool = False
    ) -> Self:
        """Return *span* as a frozen span, with these attributes if given, and without its parent if asked."""
        made = cls.from_span(
            span,
            name=span.name,
            attributes=span.attributes if attributes is None else attributes,
            events=span.events,
            links=span.links,
            resource=span.resource,
            status=span.status,
        )
        if without_parent:
            made._parent = None
        return made

    @classmethod
    def _copy_publicly(cls, span: ReadableSpan, name: str, attributes: Any, *parts: Any) -> Self:
        """Return the same by the SDK's public constructor."""
        events, links, resource, status = parts
        return cls(
            name=name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=span.kind,
            status=status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )


def read_attributes(span: ReadableSpan) -> Mapping[str, object]:
    """Return the attributes of *span* without copying them. The caller must not change them."""
    held: Any = span.attributes if _MISSING else span._attributes
    return held if type(held) is dict else getattr(held, "_dict", held) or _NO_ATTRIBUTES
