"""Dialects: the names that other instrumentations have for what the GenAI conventions name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from ...._guard import guard
from ...operations import semconv as sc

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ForeignSpan:
    """The part of a span that a dialect reads."""

    name: str
    scope: str  # the name of the instrumentation
    attributes: Mapping[str, Any]
    events: Sequence[Event] = ()

    def get(self, name: str) -> Any:
        """Return the value of an attribute as it is; None if the span has none of this name."""
        return self.attributes.get(name)

    def parse(self, name: str) -> Any:
        """Return the value of an attribute; of JSON text, what it says."""
        return parse_attribute(self.attributes.get(name))


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One way to name things. It applies to a span with one of the *prefixes*, from one of the *scopes*, or so named.

    Attributes:
        prefixes: beginnings of the names of attributes that only this dialect has.
        scopes: beginnings of the names of instrumentations, where attributes alone do not tell.
        span_names: beginnings of the names of spans, likewise.
        is_genai: whether every span of this dialect is a GenAI span.
        names: names of the dialect, each with that of the conventions for the same value. The first that a span has
            counts.
        kind: the attribute that says what a span is.
        operations: values of *kind*, in lower case, each with the operation of the conventions.
        read: returns what takes more than a renaming. What the span says in the conventions' names comes first.
        correct: returns what takes the place of attributes in the conventions' names.
        content: names of attributes with content, and prefixes of such names, for those who want no content.
    """

    prefixes: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    span_names: tuple[str, ...] = ()
    is_genai: bool = True
    names: Mapping[str, str] = field(default_factory=dict)
    kind: str | None = None
    operations: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[ForeignSpan], JsonObject] | None = None
    correct: Callable[[ForeignSpan], JsonObject] | None = None
    content: tuple[str, ...] = ()

    def applies_to(self, span: ForeignSpan) -> bool:
        """Return whether *span* speaks this dialect."""
        if span.scope.startswith(self.scopes) or span.name.startswith(self.span_names):
            return True
        return any(name.startswith(self.prefixes) for name in span.attributes)

    def translate(self, span: ForeignSpan) -> JsonObject:
        """Return what *span* says, in the conventions' names."""
        found: JsonObject = {}
        for theirs, ours in self.names.items():
            if theirs in span.attributes:
                found.setdefault(ours, span.attributes[theirs])
        if self.kind is not None and (kind := span.get(self.kind)):
            operation = self.operations.get(str(kind).lower())
            found |= {sc.KIND: str(kind).lower()} if operation is None else {sc.OPERATION: operation}
        if self.read is not None:
            with guard("reading the messages of another instrumentation"):  # without them the numbers are there
                found |= self.read(span)
        return found


def parse_attribute(value: Any) -> Any:
    """Return the value of an attribute: JSON text is parsed, the structures of other SDKs are returned."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value


def list_values(value: Any) -> list[Any]:
    """Return a list, or what a JSON text or a tuple holds, as a list; a single value as a list of one."""
    value = parse_attribute(value)
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def collect_indexed(attributes: Mapping[str, Any], prefix: str) -> list[Any]:
    """Return attributes such as ``prefix.0.role=user`` as a list of nested dicts, in the order of their index."""
    tree: JsonObject = {}
    for key, value in attributes.items():
        if key.startswith(prefix):
            *path, last = key[len(prefix) :].split(".")
            node = tree
            for name in path:
                node = node.setdefault(name, {})
                if not isinstance(node, dict):
                    break
            else:
                node[last] = value
    return sort_by_index(tree)


def _is_index(key: object) -> bool:
    return isinstance(key, str) and key.isdecimal() and key.isascii() and len(key) <= _INDEX_DIGITS


_INDEX_DIGITS = 9  # more than any list has items


def sort_by_index(tree: object) -> list[Any]:
    """Return the values of a dict whose keys are all numbers, as text, in their order; else an empty list."""
    if not isinstance(tree, dict) or not all(map(_is_index, tree)):  # an answer's own keys may be numbers, too
        return []
    return [tree[key] for key in sorted(tree, key=int)]
