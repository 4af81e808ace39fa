"""Calls of Agno's tools, and searches of its knowledge."""

from __future__ import annotations

from ..._shape import get_field, get_nested, list_items
from ...hooks.call import BegunCall, Call
from ...tracing.operations.content import to_plain_data
from ...tracing.operations.message_drafts import TextPieces
from ...tracing.operations.records import Retrieval, Tool
from .._vectors.documents import Document, make_document
from .wrappers import describe_failure


def begin_tool(call: Call) -> BegunCall:
    """Begin ``execute`` or ``aexecute`` of a FunctionCall, which has the id that the model has given it."""
    asked = call.args[0]
    record = Tool(
        name=get_nested(asked, "function.name", str),
        type="function",
        description=get_nested(asked, "function.description", str),
        call_id=get_nested(asked, "call_id", str),
    )
    if call.capture_content:
        record.input = to_plain_data(get_field(asked, "arguments") or {})

    def observe(record: Tool, got: object) -> None:
        error = get_nested(got, "error", str) or get_nested(asked, "error", str)
        if get_nested(got, "status", str) == "failure":
            record.failure = describe_failure("tool_error", error)
        elif not call.capture_content:
            return
        elif hasattr(got, "status"):
            record.output = to_plain_data(get_field(got, "result"))
        elif isinstance(got, str):  # a piece of what a tool yields, among the events of a member of a team
            record.output = TextPieces([*(record.output or ()), got])

    return record, observe


def begin_search(call: Call) -> BegunCall:
    """Begin ``search`` or ``asearch`` of a knowledge base."""
    owner = call.args[0]
    record = Retrieval(source=get_nested(owner, "name", str) or type(owner).__name__)
    record.top_k = call.argument("max_results", want=int) or get_nested(owner, "max_results", int)
    if call.capture_content:
        record.input = call.argument("query", want=str)

    def observe(record: Retrieval, got: object) -> None:
        if call.capture_content:
            record.output = [_read_ranked_document(index, one) for index, one in enumerate(list_items(got))]

    return record, observe


def _read_ranked_document(index: int, raw: object) -> Document:
    """Read a document; one that was not ranked has the score 0."""
    return make_document(
        get_field(raw, "id") or get_field(raw, "name") or index,
        score=get_field(raw, "reranking_score"),
        content=get_nested(raw, "content", str),
        metadata=to_plain_data(get_nested(raw, "meta_data", dict)),
    )
