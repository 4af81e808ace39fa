"""Calls of tools, as a test reads them, and how their names may match what a test expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from opentelemetry.sdk.trace import ReadableSpan

from ..tracing.operations import semconv as sc
from ..tracing.operations.messages import parse_json

Match = Literal["exact", "unordered", "in_order", "superset", "subset"]


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Attributes:
        name: the tool.
        arguments: decoded from JSON; None if content is not recorded.
        result: likewise; None for a call that a model has only asked for.
        error: the type of the error that the tool has raised.
    """

    name: str
    arguments: Any = None
    result: Any = None
    error: str | None = None


class ToolNames(list[str]):
    """Names of tools, a plain list. With the plugin, a failed comparison shows the tree of the spans."""

    def __init__(self, names: Iterable[str], explain: Callable[[], str]) -> None:
        super().__init__(names)
        self.explain = explain


def read_tool_call(span: ReadableSpan) -> ToolCall:
    """Return the call that a span of ``execute_tool`` tells of."""
    attributes = span.attributes or {}
    error = attributes.get(sc.ERROR_TYPE)
    return ToolCall(
        str(attributes.get(sc.TOOL_NAME) or span.name.removeprefix(f"{sc.EXECUTE_TOOL} ")),
        decode_content(span, sc.TOOL_CALL_ARGUMENTS),
        decode_content(span, sc.TOOL_CALL_RESULT),
        None if error is None else str(error),
    )


def list_requested_tools(span: ReadableSpan) -> list[ToolCall]:
    """Return the calls that a model asks for in the answer that *span* tells of."""
    messages = decode_content(span, sc.OUTPUT_MESSAGES)
    parts = [
        part
        for message in (messages if isinstance(messages, list) else [])
        for part in (message.get("parts") if isinstance(message, dict) else None) or []
    ]
    found = [part for part in parts if isinstance(part, dict) and part.get("type") == "tool_call"]
    return [ToolCall(str(part.get("name")), _decode_arguments(part.get("arguments"))) for part in found]


def _decode_arguments(value: Any) -> Any:
    return parse_json(value) if isinstance(value, str) else value


def decode_content(span: ReadableSpan, name: str) -> Any:
    """Return the value of a content attribute, decoded from JSON; None if the span lacks the attribute."""
    text = (span.attributes or {}).get(name)
    return None if text is None else parse_json(str(text))


def _is_in_order(expected: Sequence[str], called: Sequence[str]) -> bool:
    rest = iter(called)
    return all(name in rest for name in expected)


_MATCHES: Final[dict[Match, tuple[Callable[[Sequence[str], Sequence[str]], bool], str]]] = {
    "exact": (lambda expected, called: list(expected) == list(called), "exactly these, in this order"),
    "unordered": (lambda expected, called: Counter(expected) == Counter(called), "exactly these, in any order"),
    "in_order": (_is_in_order, "these in this order, others beside them"),
    "superset": (lambda expected, called: Counter(expected) <= Counter(called), "these in any order, others too"),
    "subset": (lambda expected, called: Counter(called) <= Counter(expected), "no others, and none more often"),
}


def match_tools(expected: Sequence[str], called: Sequence[str], match: Match) -> str | None:
    """Return why the tools that were *called* do not match; None if they do.

    Raises:
        ValueError: there is no such way to match.
    """
    if match not in _MATCHES:
        raise ValueError(f"match must be one of {', '.join(_MATCHES)}, not {match!r}")
    matches, meaning = _MATCHES[match]
    if matches(expected, called):
        return None
    return f"expected tools ({meaning}): {list(expected)}\n     tools that ran: {list(called)}"
