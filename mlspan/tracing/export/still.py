"""Ended spans that are quick to read: the SDK's own wrap what they hold anew each time, and ask for a lock."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

if TYPE_CHECKING:
    from typing_extensions import Self

NOTHING: Final = Resource({})
_NONE: Final[Mapping[str, Any]] = {}
_FIELDS: Final = vars(ReadableSpan("", resource=NOTHING))
_DEFAULTS: Final = tuple(_FIELDS.values())


class Still(ReadableSpan):
    """A span that nothing changes any more, with its attributes in a plain dict."""

    attributes = property(attrgetter("_attributes"))
    events = property(attrgetter("_events"))
    links = property(attrgetter("_links"))
    dropped_attributes = dropped_events = dropped_links = 0

    @classmethod
    def of(cls, span: ReadableSpan, **changed: Any) -> Self:
        """*span* as one of these, with fields *changed*: their names, an underscore before each."""
        made, fields = object.__new__(cls), vars(span)
        if not isinstance(span, Still):
            fields = dict(zip(_FIELDS, map(fields.get, _FIELDS, _DEFAULTS)))  # noqa: B905  # of one length
        made.__dict__ = {**fields, **changed}
        return made


def said(span: ReadableSpan) -> Mapping[str, Any]:
    """The attributes of *span*, which are not to be changed."""
    held = span._attributes
    return held._dict if type(held) is BoundedAttributes else held or _NONE
