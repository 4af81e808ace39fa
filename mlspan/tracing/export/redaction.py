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

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, Status

from ..operations import records
from ..operations import semconv as sc
from ..operations.call_context import TraceOrigin
from ..operations.content import REDACTED, ContentPolicy, mask_api_keys, to_json
from ..otel.frozen_span import FrozenSpan, read_attributes
from .dialects.catalog import remove_foreign_content

_SECRET_HEADER: Final = re.compile(  # headers that HTTP and RPC instrumentations record
    r"\.(?:header|metadata)\.(?:(?:proxy[-_])?authorization|(?:set[-_])?cookie|.*api[-_]?key|.*token|.*secret)$",
    re.IGNORECASE,
)
_CONVENTION_WORDS: Final = frozenset(  # fixed words of the conventions, and model names, which prices depend on
    {sc.OPERATION, sc.PROVIDER, sc.OUTPUT_TYPE, sc.REQUEST_MODEL, sc.RESPONSE_MODEL, sc.RESPONSE_FINISH_REASONS}
    | {sc.RESPONSE_STATUS, sc.REQUEST_REASONING_LEVEL, sc.REQUEST_ENCODING_FORMATS, sc.TOOL_TYPE, sc.OPENAI_API_TYPE}
    | {sc.KIND, sc.LINK, sc.STREAM_END, sc.ERROR_TYPE, sc.ASSESSMENT, sc.ASSESSMENT_SOURCE, sc.PROMPTS, sc.MODEL_ID}
    | {sc.RUN_ID}
)
_UNLIMITED: Final = 2**40  # bytes: text is not cut here


@lru_cache(maxsize=4096)
def _is_secret_header(name: str) -> bool:
    return _SECRET_HEADER.search(name) is not None


def _find_content_attributes() -> frozenset[str]:
    """Return the attributes of our records that were redacted when the span ended."""
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, records.Record)]
    return frozenset(one.name for kind in kinds for one in kind.attrs.values() if one.when == "content")


_CONTENT_ATTRIBUTES: Final = _find_content_attributes()
_ALREADY_REDACTED: Final = _CONVENTION_WORDS | _CONTENT_ATTRIBUTES
_NUMBER_TYPES: Final = (int, float, bool)


class SpanRedactor:
    """A callable that returns an ended span as a FrozenSpan with secrets replaced.

    Without *capture* it takes the content out of other instrumentations' GenAI spans too; ours have none then.

    A span that has dropped attributes, events or links is returned unchanged if nothing has to be redacted, because
    only the SDK's own containers know how many were dropped.
    """

    def __init__(self, redact: Callable[[str], str] | None = None, *, capture: bool = True) -> None:
        self._capture = capture
        self._policy = None if redact is None else ContentPolicy(capture=True, redact=redact, limit=_UNLIMITED)
        self._resources: dict[
            int, tuple[Resource, Resource]
        ] = {}  # by id of the original, which is kept so that its id stays unique

    def __call__(self, span: ReadableSpan) -> ReadableSpan:
        ours = span.instrumentation_scope is not None and span.instrumentation_scope.name == "mlspan"
        own: Mapping[str, Any] = dict(read_attributes(span))
        own_events: Sequence[Event] = span.events
        if not self._capture and not ours and (left := remove_foreign_content(span)) is not None:
            own, own_events = left
        attributes = self._redact_attributes(own, _ALREADY_REDACTED if ours else _CONVENTION_WORDS)
        events, links = tuple(map(self._redact_event, own_events)), tuple(map(self._redact_link, span.links))
        status, resource, name = (
            self._redact_status(span.status),
            self._redact_resource(span.resource),
            self._redact_text(span.name),
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
            session=origin.session and self._redact_text(origin.session),
            user=origin.user and self._redact_text(origin.user),
            tags=self._redact_attributes(origin.tags) or {},
        )

    def _redact_attributes(
        self, attributes: Mapping[str, Any] | None, done: frozenset[str] = _CONVENTION_WORDS
    ) -> Mapping[str, Any] | None:
        """Return *attributes* with values redacted, except those in *done*; the same object if nothing changes."""
        changed = {}
        for name, value in (attributes or {}).items():
            if name not in done:
                redacted = (
                    REDACTED
                    if _is_secret_header(name)
                    else value
                    if type(value) in _NUMBER_TYPES
                    else self._redact_value(value)
                )
                if redacted != value:
                    changed[name] = redacted
        return {**(attributes or {}), **changed} if changed else attributes

    def _redact_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redact_text(value)
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._redact_value, value))
        if isinstance(value, Mapping):
            return {name: self._redact_value(item) for name, item in value.items()}
        if isinstance(value, bytes):
            text = value.decode(errors="replace")
            redacted = self._redact_text(text)
            return value if redacted == text else redacted
        return value

    def _redact_text(self, text: str) -> str:
        """Return *text* with API keys masked and ``redact`` applied; text that is JSON stays JSON."""
        if self._policy is None:
            return mask_api_keys(text)
        if text.lstrip()[:1] in {"{", "["}:  # each string inside JSON is redacted, so that the result is JSON
            try:
                value = orjson.loads(text)
            except orjson.JSONDecodeError:
                pass
            else:
                redacted = self._policy.render_json(value)
                return mask_api_keys(text if redacted == to_json(value) else redacted)
        return mask_api_keys(self._policy.render_text(text))

    def _redact_event(self, event: Event) -> Event:
        attributes, name = self._redact_attributes(event.attributes), self._redact_text(event.name)
        if attributes is event.attributes and name == event.name:
            return event
        return Event(name, attributes, event.timestamp)

    def _redact_link(self, link: Link) -> Link:
        attributes = self._redact_attributes(link.attributes)
        return link if attributes is link.attributes else Link(link.context, attributes)

    def _redact_status(self, status: Status) -> Status:
        description = status.description
        return (
            status
            if description is None or (redacted := self._redact_text(description)) == description
            else Status(status.status_code, redacted)
        )

    def _redact_resource(self, resource: Resource) -> Resource:
        if id(resource) not in self._resources:
            redacted = self._redact_attributes(resource.attributes)
            own = resource if redacted is resource.attributes else Resource(redacted or {}, resource.schema_url)
            self._resources[id(resource)] = resource, own
        return self._resources[id(resource)][1]


def _has_dropped(span: ReadableSpan) -> bool:
    """Return True if the span has dropped attributes, events or links."""
    return bool(span.dropped_attributes or span.dropped_events or span.dropped_links)


def _are_identical(some: Iterable[object], others: Iterable[object]) -> bool:
    """Return True if both sequences hold the same objects."""
    return all(one is other for one, other in zip(some, others, strict=True))
