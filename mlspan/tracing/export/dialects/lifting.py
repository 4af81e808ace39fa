"""The question and the answer of an agent or a workflow, from the calls below it, where only those tell them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from ...operations import semconv as sc
from ...operations.content import to_json
from ...otel.frozen_span import FrozenSpan, read_attributes
from .catalog import is_own_span
from .dialect import JsonObject, list_values

_OUTER: Final = {sc.INVOKE_AGENT, sc.INVOKE_WORKFLOW}


def lift_messages(spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
    """Return *spans* with the first question and the last answer below them on foreign agents that tell neither."""
    silent = [span for span in spans if not is_own_span(span) and _lacks_messages(span)]
    if not silent:
        return spans
    below: dict[int, list[ReadableSpan]] = {}
    for span in spans:
        if span.parent is not None:
            below.setdefault(span.parent.span_id, []).append(span)
    lifted = {id(span): _lift(span, below) for span in silent}
    return [lifted.get(id(span), span) for span in spans]


def _lacks_messages(span: ReadableSpan) -> bool:
    attributes = read_attributes(span)
    told = [sc.INPUT_MESSAGES in attributes or sc.INPUT in attributes]
    told += [sc.OUTPUT_MESSAGES in attributes or sc.OUTPUT in attributes]
    return attributes.get(sc.OPERATION) in _OUTER and not all(told)


def _lift(span: ReadableSpan, below: dict[int, list[ReadableSpan]]) -> ReadableSpan:
    own = dict(read_attributes(span))
    calls = sorted(_list_below(span, below), key=lambda one: one.start_time or 0)
    asked = (_find_last(read_attributes(call).get(sc.INPUT_MESSAGES), "user") for call in calls)
    answered = (_find_last(read_attributes(call).get(sc.OUTPUT_MESSAGES), "assistant") for call in reversed(calls))
    for messages, text, found in ((sc.INPUT_MESSAGES, sc.INPUT, asked), (sc.OUTPUT_MESSAGES, sc.OUTPUT, answered)):
        if messages not in own and text not in own and (message := next(filter(None, found), None)) is not None:
            own[messages] = to_json([message])
    return FrozenSpan.copy_span(span, attributes=own)


def _list_below(span: ReadableSpan, below: dict[int, list[ReadableSpan]]) -> Iterator[ReadableSpan]:
    """Yield all spans below a span, each once."""
    seen: set[int] = set()
    waiting = [span]
    while waiting:
        context = waiting.pop().get_span_context()
        if context is None or context.span_id in seen:
            continue
        seen.add(context.span_id)
        children = below.get(context.span_id, [])
        yield from children
        waiting += children


def _find_last(messages: Any, role: str) -> JsonObject | None:
    """Return the last message of a *role*; None if there is none."""
    found = [one for one in list_values(messages) if isinstance(one, dict) and one.get("role") == role]
    return found[-1] if found else None
