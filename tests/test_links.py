"""Links: a record says what it offers and what caused it, and the core links."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanContext

from mlspan.testing import Spans
from mlspan.tracing.operations.operation import start_operation
from mlspan.tracing.operations.records import Agent, Chat, Record, Step, Tool
from mlspan.tracing.runtime import get_runtime


def run_operation(record: Record) -> SpanContext:
    """Run an operation that does nothing, and return its span's ids."""
    now = get_runtime()
    assert now is not None
    with start_operation(now, record) as operation:
        return operation.span.get_span_context()


def list_links(spans: Spans) -> Iterator[tuple[str, int]]:
    """Yield the kind of each link, and the span that it points to."""
    for span in spans.all:
        for link in span.links:
            yield str((link.attributes or {})["mlspan.link"]), link.context.span_id


def test_a_known_span_is_linked(spans: Spans) -> None:
    """A cause that is a span becomes a link, also of a record that has none in general."""
    first = run_operation(Step(name="first"))
    second = Step(name="second")
    second.add_cause("triggered_by", first)
    run_operation(second)
    assert list(list_links(spans)) == [("triggered_by", first.span_id)]


def test_a_tool_is_linked_to_the_call_that_requested_it(spans: Spans) -> None:
    """A tool that runs in another trace than the model's call finds it by the id of the tool call."""
    chat = Chat(provider="p", model="m")
    chat.draft.call_ids.append("call_links_1")
    asked = run_operation(chat)
    run_operation(Tool(name="t", call_id="call_links_1"))
    run_operation(Tool(name="t", call_id="call_links_2"))
    assert list(list_links(spans)) == [("asked_by", asked.span_id)]


@pytest.mark.parametrize("when", ["as it comes", "in a part", "last", "before a failure"])
def test_a_tool_call_counts_whenever_it_is_read(when: str, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks for a tool is linked, whether its id comes with a chunk, or is read when the answer has ended."""
    chat = Chat(provider="p", model="m")

    def add(found: Chat, unread: str) -> None:
        found.draft.get_choice().add_part({"type": "tool_call", "id": unread, "name": "t", "arguments": {}})
        if when == "before a failure":
            raise TypeError("an odd answer")

    if when == "as it comes":
        chat.draft.get_choice().add_tool_call(0, when, "t", "{}")
    elif when == "in a part":
        add(chat, when)
    else:
        chat.unread, chat.read_rest = when, add
    if when == "before a failure":
        monkeypatch.delenv("MLSPAN_STRICT", raising=False)
    asked = run_operation(chat)
    run_operation(Tool(name="t", call_id=when))
    assert list(list_links(spans)) == [("asked_by", asked.span_id)]


def test_an_offer_for_one_trace_is_taken_up_once(spans: Spans) -> None:
    """A hand-off within a trace reaches no agent of another, and only the next turn of its agent."""
    now = get_runtime()
    assert now is not None
    with start_operation(now, Step(name="conversation")):
        tool = Tool(name="transfer")
        tool.add_offer("handed_off_by", "writer", anywhere=False)
        run_operation(tool)
    turns = [Agent(name="writer") for _ in range(3)]
    for turn in turns:
        turn.add_cause("handed_off_by", "writer", once=True)
    run_operation(turns[0])
    assert not list(list_links(spans))
    with start_operation(now, Step(name="conversation")):
        tool = Tool(name="transfer")
        tool.add_offer("handed_off_by", "writer", anywhere=False)
        gave = run_operation(tool)
        run_operation(turns[1])
        run_operation(turns[2])
    assert list(list_links(spans)) == [("handed_off_by", gave.span_id)]


def test_a_replaced_record_keeps_its_links(spans: Spans) -> None:
    """A record that takes the place of another of the same operation has the links of both."""
    first = run_operation(Step(name="first"))
    node, graph = Step(name="node"), Agent(name="graph")
    node.add_cause("triggered_by", first)
    graph.copy_links(node)
    run_operation(graph)
    assert list(list_links(spans)) == [("triggered_by", first.span_id)]
