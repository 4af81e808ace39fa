"""Redaction on the export side: ``redact`` and the masking of API keys, for all text but the content of our own spans.

Secrets are taken out of the text of spans in two places:

- ``operations/content.py``, when one of our spans ends: ``redact`` for its content and exceptions, so that every
  exporter of the application sees it redacted. API keys are masked in exceptions. In content (messages, arguments,
  results) they are left unless ``redact`` takes them out, because content is recorded as it was said (docs/privacy.md).
- here, on the export worker, before anything is stored or sent: ``redact`` and the masking of API keys for the rest,
  which is other libraries' spans as a whole, other attributes of our spans, names, events, links, status, resources,
  and the origin. Headers with credentials are masked by their name.

Log lines go through ``redact`` in ``_guard.py``; ``export/destination.py`` takes credentials out of addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status

from ..operations.attribute_redaction import AttributeRedactor
from ..operations.call_context import TraceOrigin
from ..operations.fields import content_attributes
from ..otel.frozen_span import FrozenSpan, read_attributes
from .dialects.catalog import remove_foreign_content


class SpanRedactor:
    """A callable that returns an ended span as a FrozenSpan with secrets replaced.

    Without *capture* it takes the content out of other instrumentations' GenAI spans too; ours have none then.

    A span that has dropped attributes, events or links is returned unchanged if nothing has to be redacted, because
    only the SDK's own containers know how many were dropped.
    """

    def __init__(self, redact: Callable[[str], str] | None = None, *, capture: bool = True) -> None:
        self._capture = capture
        self._attributes = AttributeRedactor(redact)
        self._resources: dict[
            int, tuple[Resource, Resource]
        ] = {}  # by id of the original, which is kept so that its id stays unique

    def __call__(self, span: ReadableSpan) -> ReadableSpan:
        ours = span.instrumentation_scope is not None and span.instrumentation_scope.name == "mlspan"
        own: Mapping[str, Any] = dict(read_attributes(span))
        own_events: Sequence[Event] = span.events
        own_status = span.status
        if not self._capture and not ours and (left := remove_foreign_content(span)) is not None:
            own, own_events = left
            own_status = Status(span.status.status_code)  # its description is the message of an exception
        attributes = self._attributes.redact_attributes(own, content_attributes if ours else frozenset())
        events, links = tuple(map(self._redact_event, own_events)), tuple(map(self._redact_link, span.links))
        status, resource, name = (
            self._redact_status(own_status),
            self._redact_resource(span.resource),
            self._attributes.redact_text(span.name),
        )
        if own_events is span.events and _has_dropped(span):
            same = attributes is own and status is span.status and resource is span.resource
            if same and name == span.name and _are_identical(events, span.events) and _are_identical(links, span.links):
                return span
        return FrozenSpan.from_span(
            span,
            name=name,
            resource=resource,
            attributes=attributes,
            events=events,
            links=links,
            status=status,
        )

    def redact_origin(self, origin: TraceOrigin) -> TraceOrigin:
        """Return *origin* with session, user and tags redacted."""
        if not (origin.session or origin.user or origin.tags):
            return origin
        return replace(
            origin,
            session=origin.session and self._attributes.redact_text(origin.session),
            user=origin.user and self._attributes.redact_text(origin.user),
            tags=self._attributes.redact_attributes(origin.tags) or {},
        )

    def _redact_event(self, event: Event) -> Event:
        attributes = self._attributes.redact_attributes(event.attributes)
        name = self._attributes.redact_text(event.name)
        if attributes is event.attributes and name == event.name:
            return event
        return Event(name, attributes, event.timestamp)

    def _redact_link(self, link: Link) -> Link:
        attributes = self._attributes.redact_attributes(link.attributes)
        return link if attributes is link.attributes else Link(link.context, attributes)

    def _redact_status(self, status: Status) -> Status:
        description = status.description
        return (
            status
            if description is None or (redacted := self._attributes.redact_text(description)) == description
            else Status(status.status_code, redacted)
        )

    def _redact_resource(self, resource: Resource) -> Resource:
        if id(resource) not in self._resources:
            redacted = self._attributes.redact_attributes(resource.attributes)
            own = resource if redacted is resource.attributes else Resource(redacted or {}, resource.schema_url)
            self._resources[id(resource)] = resource, own
        return self._resources[id(resource)][1]


def _has_dropped(span: ReadableSpan) -> bool:
    """Return True if the span has dropped attributes, events or links."""
    return bool(span.dropped_attributes or span.dropped_events or span.dropped_links)


def _are_identical(some: Iterable[object], others: Iterable[object]) -> bool:
    """Return True if both sequences hold the same objects."""
    return all(one is other for one, other in zip(some, others, strict=True))
