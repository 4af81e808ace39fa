"""Ended spans that are quick to read: the SDK's own wrap what they hold anew each time, and ask for a lock."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

if TYPE_CHECKING:
    from typing_extensions import Self

NOTHING: Final = Resource({})
_NONE: Final[Mapping[str, Any]] = {}
_FIELDS: Final = tuple(vars(ReadableSpan("", resource=NOTHING)).keys() - {"_events", "_links"})
_fields: Final = attrgetter(*_FIELDS)


class Still(ReadableSpan):
    """A span that nothing changes any more, with its attributes in a plain dict."""

    attributes = property(attrgetter("_attributes"))
    events = property(attrgetter("_events"))
    links = property(attrgetter("_links"))
    dropped_attributes = dropped_events = dropped_links = 0

    @classmethod
    def of(cls, span: ReadableSpan, **changed: Any) -> Self:
        """*span* as one of these, with fields *changed*, events and links among them; their names begin with "_"."""
        made = object.__new__(cls)
        fields = vars(span) if isinstance(span, Still) else dict(zip(_FIELDS, _fields(span)))  # noqa: B905  # of one length
        made.__dict__ = {**fields, **changed}
        return made


def said(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes of *span*, which are not to be changed."""
    held: Any = span._attributes
    return held if type(held) is dict else getattr(held, "_dict", held) or _NONE
