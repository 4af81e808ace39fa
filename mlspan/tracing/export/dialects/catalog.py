"""The dialects that are understood, and the translation of a span into the names of the GenAI conventions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan

from ...._guard import guard
from ...operations import semconv as sc
from ...otel.frozen_span import FrozenSpan, read_attributes
from .agent_framework import AGENT_FRAMEWORK
from .claude_code import CLAUDE_CODE
from .dialect import Dialect, ForeignSpan
from .google_adk import GOOGLE_ADK
from .livekit import LIVEKIT
from .mcp import MCP
from .older_conventions import OLDER_CONVENTIONS
from .openinference import OPENINFERENCE
from .openllmetry import OPENLLMETRY
from .pipecat import PIPECAT
from .providers import normalize_provider
from .pydantic_ai import PYDANTIC_AI
from .semantic_kernel import SEMANTIC_KERNEL
from .strands import STRANDS
from .vercel_ai import VERCEL_AI

DIALECTS: Final[tuple[Dialect, ...]] = (  # if two have something to say, the first one counts
    *(PYDANTIC_AI, STRANDS, GOOGLE_ADK, SEMANTIC_KERNEL, AGENT_FRAMEWORK, VERCEL_AI, CLAUDE_CODE, LIVEKIT, PIPECAT),
    *(MCP, OPENINFERENCE, OPENLLMETRY, OLDER_CONVENTIONS),
)
OWN_SCOPE: Final = "mlspan"
USAGE_PREFIXES: Final = (  # of attributes that say how many tokens a call took
    *("gen_ai.usage.", "gen_ai.aggregated_usage.", "llm.token_count.", "llm.usage.", "ai.usage."),
    *("gen_ai.client.token.usage",),
)
_MARKS: Final = (
    "mcp.resource.",
    *(prefix for dialect in DIALECTS if dialect.is_genai for prefix in dialect.prefixes),
)
_SCOPES: Final = tuple(scope for dialect in DIALECTS if dialect.is_genai for scope in dialect.scopes)
_SPAN_NAMES: Final = tuple(name for dialect in DIALECTS for name in dialect.span_names)


def speaks_dialect(span: ReadableSpan) -> bool:
    """Return whether *span* has an attribute that only a dialect of GenAI spans has, or is from such a library."""
    if span.name.startswith(_SPAN_NAMES) or any(name.startswith(_MARKS) for name in read_attributes(span)):
        return True
    scope = span.instrumentation_scope
    return scope is not None and bool(scope.name) and scope.name.startswith(_SCOPES)


def is_own_span(span: ReadableSpan) -> bool:
    """Return whether *span* is mlspan's own."""
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == OWN_SCOPE


def translate_foreign_span(span: ReadableSpan) -> ReadableSpan:
    """Return *span* with what it says in the conventions' names beside its own; itself if there is nothing to add.

    A span of mlspan's is returned at once. One that cannot be read stays as it is.
    """
    if is_own_span(span):
        return span
    own = read_attributes(span)
    with guard("reading a span of another instrumentation"):
        foreign = _describe(span)
        attributes = translate_attributes(foreign)
        if foreign.scope and not _TOKEN_COUNTS.isdisjoint(attributes):  # for when more of the trace arrives
            attributes = {**attributes, sc.INSTRUMENTATION: foreign.scope}
        if attributes is not own:
            return FrozenSpan.copy_span(span, attributes=attributes)
    return span


_TOKEN_COUNTS: Final = frozenset({sc.USAGE_INPUT_TOKENS, sc.USAGE_OUTPUT_TOKENS})


def _describe(span: ReadableSpan) -> ForeignSpan:
    scope = span.instrumentation_scope
    return ForeignSpan(span.name, "" if scope is None else scope.name or "", read_attributes(span), span.events)


def _find_dialects(span: ForeignSpan) -> tuple[Dialect, ...]:
    """Return the dialects that *span* speaks."""
    name = span.name if span.name.startswith(_SPAN_NAMES) else ""
    return _match_dialects(span.scope, name, tuple(span.attributes))


@lru_cache(maxsize=256)
def _match_dialects(scope: str, name: str, attributes: tuple[str, ...]) -> tuple[Dialect, ...]:
    """Return the dialects of spans with these names: a program has many spans of few such kinds."""
    span = ForeignSpan(name, scope, dict.fromkeys(attributes))
    return tuple(dialect for dialect in DIALECTS if dialect.applies_to(span))


def translate_attributes(span: ForeignSpan) -> Mapping[str, Any]:
    """Return the attributes of *span* and, beside them, their translation and that of its events.

    An attribute that has a conventions' name already takes precedence, unless the dialect is known to fill it with
    something else. What nobody's dialect knows is returned as it is.
    """
    speaks = _find_dialects(span)
    if not speaks:
        return span.attributes
    found: dict[str, Any] = {}
    for dialect in speaks:
        said = dialect.translate(span)
        if sc.OPERATION in found or sc.KIND in found:  # one of the two says what a span is
            said = {name: value for name, value in said.items() if name not in {sc.OPERATION, sc.KIND}}
        found = {**said, **found}
    if sc.OPERATION in span.attributes:
        found.pop(sc.KIND, None)
    found.update(span.attributes)
    for dialect in speaks:
        found.update(dialect.correct(span) if dialect.correct is not None else {})
    if isinstance(provider := found.get(sc.PROVIDER), str):
        found |= normalize_provider(provider)
    said = {name: value for name, value in found.items() if value is not None}
    return span.attributes if said == dict(span.attributes) else said  # it has been in the conventions' names already


def remove_foreign_content(span: ReadableSpan) -> tuple[Mapping[str, Any], tuple[Event, ...]] | None:
    """Return attributes and events of another instrumentation's span without content; None if it has none."""
    if is_own_span(span):
        return None
    foreign = _describe(span)
    content = tuple(name for dialect in _find_dialects(foreign) for name in dialect.content)
    if not content:
        return None
    attributes = {name: value for name, value in foreign.attributes.items() if not _is_content(name, content)}
    events = tuple(_remove_message(event) for event in span.events if not _CONTENT_EVENTS.match(event.name))
    return attributes, events


def _remove_message(event: Event) -> Event:
    """Return an event without what an exception says, which may quote the request or the answer."""
    told = event.attributes or {}
    if told.keys().isdisjoint(_MESSAGES):
        return event
    return Event(event.name, {name: value for name, value in told.items() if name not in _MESSAGES}, event.timestamp)


_MESSAGES: Final = frozenset({"exception.message", "exception.stacktrace"})
_CONTENT_EVENTS: Final = re.compile(r"gen_ai\.(?!evaluation\.)|tool\.output")
_NO_CONTENT: Final = {"gen_ai.prompt.name", "gen_ai.prompt.version"}


def _is_content(name: str, content: tuple[str, ...]) -> bool:
    """Return whether *name* is among the names in *content*, or begins with one that ends in a point."""
    return name not in _NO_CONTENT and any(
        name.startswith(one) if one.endswith(".") else name == one for one in content
    )
