"""Frozen spans: ended spans that are quick to read.

The SDK's own wrap their contents and take a lock on each read.
"""

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
    """An ended span with its attributes in a plain dict. Nothing changes it any more."""

    attributes = property(attrgetter("_attributes"))
    events = property(attrgetter("_events"))
    links = property(attrgetter("_links"))
    dropped_attributes = dropped_events = dropped_links = 0

    @classmethod
    def of(cls, span: ReadableSpan, **changed: Any) -> Self:
        """Return *span* as a frozen span, with the instance fields in *changed* replaced.

        Their names begin with "_".
        """
        made = object.__new__(cls)
        fields = vars(span) if isinstance(span, Still) else dict(zip(_FIELDS, _fields(span)))  # noqa: B905  # both have the same length
        made.__dict__ = {**fields, **changed}
        return made


def said(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of *span* without copying them. The caller must not change them."""
    held: Any = span._attributes
    return held if type(held) is dict else getattr(held, "_dict", held) or _NONE
