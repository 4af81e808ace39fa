"""Operations of LlamaIndex: the calls its dispatcher reports that become spans, and the record of each.

The dispatcher reports some calls two or three times (``retrieve`` and ``_retrieve``), and many that are of no interest
(splitters, parsers, templates). Such a call has no span: the operations inside of it stand below the one around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..._shape import get_field, get_nested
from ...hooks.call import BegunCall
from ...tracing.operations import semconv as sc
from ...tracing.operations.message_drafts import TextPieces
from ...tracing.operations.records import NamedRecord, Retrieval, Step, Tool
from . import requests as read
from .calls import STREAM_METHODS, STRUCTURED_METHODS, DispatchedCall

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_similarity_top_k": "how many documents were asked for",
    "_vector_store": "the name of the vector store",
    "_memory": "the conversation of a chat engine",
}


def begin_call(kind: str, seen: DispatchedCall) -> BegunCall | None:
    """Begin the record of a call; None if it has no span of its own.

    That is so for a method that is not listed in ``CALL_TYPES``, for a call inside another call of the same object, and
    where the type's own function returns None.
    """
    methods, open_ = CALL_TYPES[kind]
    if methods and seen.method not in methods:
        return None
    above = seen.enclosing
    if above is not None and above.call_type == kind and above.owner_id == id(seen.owner):
        return None
    return open_(seen)


def _begin_llm(seen: DispatchedCall) -> BegunCall | None:
    """Begin a call of a model; a StructuredLLM is none, as it calls another model."""
    if type(seen.owner).__name__ == "StructuredLLM":
        return None
    return read.begin_llm_call(seen.owner, seen.method, seen.arguments, capture_content=seen.capture_content)


def _begin_structured_predict(seen: DispatchedCall) -> BegunCall:
    """Begin a structured prediction of a model."""
    return _make_structured_record(seen, get_field(seen.arguments, "output_cls"))


def _begin_program(seen: DispatchedCall) -> BegunCall | None:
    """Begin a structured prediction of a program, unless it is part of an answer or of another prediction."""
    if seen.enclosing is not None and seen.enclosing.call_type in _ENGINE_CALL_TYPES | _STRUCTURED_CALL_TYPES:
        return None
    return _make_structured_record(seen, get_field(seen.owner, "output_cls"))


def _make_structured_record(seen: DispatchedCall, wanted: object) -> BegunCall:
    """Return the record of a structured prediction; *wanted* is the class of its result."""
    record = Step(type="parser", name=f"structured_predict {getattr(wanted, '__name__', '')}".strip())
    if seen.capture_content:
        given = seen.arguments.get("prompt_args") or seen.arguments.get("kwds") or seen.arguments.get("kwargs")
        record.input = read.simplify_step_value(given)
    return record, _observe_value


def _begin_embedding(seen: DispatchedCall) -> BegunCall | None:
    """Begin a call of an embedding model; ``__call__`` is none, as it embeds nodes by the other methods."""
    return (
        read.begin_embedding_call(seen.owner, seen.arguments, capture_content=seen.capture_content)
        if seen.method != "__call__"
        else None
    )


def _begin_retriever(seen: DispatchedCall) -> BegunCall:
    """Begin a retrieval."""
    record = Retrieval(source=type(seen.owner).__name__)
    top_k = get_nested(seen.owner, "similarity_top_k", int) or get_nested(seen.owner, "_similarity_top_k", int)
    record.top_k = top_k
    store = getattr(seen.owner, "_vector_store", None)
    if store is not None:
        record.extra["mlspan.llama_index.vector_store"] = type(store).__name__
    if seen.capture_content:
        record.input = read.read_query_text(next(iter(seen.arguments.values()), None))
    return record, _observe_documents


def _begin_query(seen: DispatchedCall) -> BegunCall:
    """Begin a query of a query engine."""
    return _make_engine_record(
        seen, read.read_query_text(next(iter(seen.arguments.values()), None)) if seen.capture_content else None
    )


def _begin_chat_engine(seen: DispatchedCall) -> BegunCall:
    """Begin a message to a chat engine, with the conversation's id and the chat so far."""
    begun = _make_engine_record(seen, None)
    memory = getattr(seen.owner, "_memory", None) or getattr(seen.owner, "memory", None)
    if conversation := read.find_conversation_id(memory):
        begun[0].extra[sc.CONVERSATION_ID] = conversation
    if seen.capture_content and isinstance(begun[0], NamedRecord):
        begun[0].output = TextPieces() if "stream" in seen.method else None
        asked = {"role": "user", "content": read.read_query_text(seen.arguments.get("message"))}
        begun[0].input = {"messages": [*read.simplify_step_value(seen.arguments.get("chat_history") or []), asked]}
    return begun


def _begin_synthesizer(seen: DispatchedCall) -> BegunCall | None:
    """Begin a call of a response synthesizer, unless it is part of an engine's answer."""
    if seen.enclosing is not None and seen.enclosing.call_type in _ENGINE_CALL_TYPES:
        return None
    asked = seen.arguments.get("query") or seen.arguments.get("query_str")
    return _make_engine_record(seen, read.read_query_text(asked) if seen.capture_content else None)


def _make_engine_record(seen: DispatchedCall, asked: object) -> BegunCall:
    """Return the record of an engine or synthesizer that answers *asked*."""
    return Step(type="chain", name=type(seen.owner).__name__, input=asked), observe_engine_answer


def observe_engine_answer(record: NamedRecord, got: object) -> None:
    """Read a whole answer, or a piece of its text."""
    if not isinstance(record.output, TextPieces):
        record.output = read.read_answer_text(got)
    elif piece := got if isinstance(got, str) else get_nested(got, "delta", str):
        record.output.append(piece)


def _begin_postprocessor(seen: DispatchedCall) -> BegunCall:
    """Begin a call of a node postprocessor; a reranker is known by its class's name or by its event."""
    name = type(seen.owner).__name__
    record = Step(type="reranker" if "rerank" in name.lower() else "postprocessor", name=name)
    if seen.capture_content:
        asked = seen.arguments.get("query_str") or seen.arguments.get("query_bundle")
        record.input = {
            "query": read.read_query_text(asked),
            "documents": read.format_nodes(seen.arguments.get("nodes")),
        }
    return record, _observe_documents


def _begin_tool(seen: DispatchedCall) -> BegunCall | None:
    """Begin a call of a tool, unless it is the same call as the one around it, or the schema of a prediction."""
    metadata = get_field(seen.owner, "metadata")
    name = get_nested(metadata, "name", str) or type(seen.owner).__name__
    above = seen.enclosing
    description = get_nested(metadata, "description", str)
    if above is not None and above.call_type in _STRUCTURED_CALL_TYPES:
        return None
    if above is not None and above.call_type == "tool" and above.name == name:
        if isinstance(
            above.operation.record, Tool
        ):  # an adapter's or an agent's, which lacks nothing but the description
            above.operation.record.description = description
        return None
    record = Tool(name=name, type="function", description=description)
    if seen.capture_content:
        given = seen.arguments.get("kwargs") or seen.arguments.get("args") or dict(seen.arguments)
        record.input = read.simplify_step_value(given)
    return record, observe_tool_output


def observe_tool_output(record: Tool, got: object) -> None:
    """Read a ToolOutput, and whether the tool has failed."""
    said = get_nested(got, "content", str)
    record.output = said if said is not None else read.simplify_step_value(got)
    if get_field(got, "is_error") is True:
        error = get_field(got, "exception")
        kind = sc.ERROR_OTHER if error is None else type(error).__qualname__
        record.failure = (kind, said or "")


def _begin_extractor(seen: DispatchedCall) -> BegunCall:
    """Begin a call of a metadata extractor."""
    record = Step(type="extractor", name=type(seen.owner).__name__)
    if seen.capture_content:
        record.input = {"nodes": len(seen.arguments.get("nodes") or ())}
    return record, None


def _begin_ingestion(seen: DispatchedCall) -> BegunCall:
    """Begin a run of an ingestion pipeline."""
    record = Step(type="index", name=type(seen.owner).__name__)
    if seen.capture_content:
        given = seen.arguments.get("documents") or seen.arguments.get("nodes") or ()
        record.input = {"documents": [str(get_field(one, "id_") or "") for one in given]}
    return record, _observe_count


def _observe_count(record: Step, got: object) -> None:
    """Read the number of nodes."""
    record.output = {"nodes": len(got)} if hasattr(got, "__len__") else None


def _observe_documents(record: Any, got: object) -> None:
    """Read a list of nodes."""
    record.output = read.format_nodes(got)


def _observe_value(record: NamedRecord, got: object) -> None:
    """Read a result as plain data."""
    record.output = read.simplify_step_value(got)


def begin_custom_call(seen: DispatchedCall, name: str) -> BegunCall:
    """Begin a call of a user's function or method that has LlamaIndex's decorator."""
    record = Step(name=name.rpartition("<locals>.")[2])
    if seen.capture_content:
        record.input = read.simplify_step_value({key: one for key, one in seen.arguments.items() if key != "self"})
    return record, _observe_value


_STRUCTURED_CALL_TYPES: Final = frozenset({"structured", "program"})
_ENGINE_CALL_TYPES: Final = frozenset(
    {"query", "chat_engine", "synthesizer"}
)  # synthesizers and programs inside have no span
# Type of call -> its methods (an empty set for all), and the function that begins the record.
CALL_TYPES: Final[dict[str, tuple[frozenset[str], Callable[[DispatchedCall], BegunCall | None]]]] = {
    "llm": (frozenset({"chat", "achat", "complete", "acomplete"}) | STREAM_METHODS, _begin_llm),
    "structured": (STRUCTURED_METHODS, _begin_structured_predict),
    "embedding": (frozenset(), _begin_embedding),
    "retriever": (frozenset(), _begin_retriever),
    "query": (frozenset({"query", "aquery"}), _begin_query),
    "chat_engine": (frozenset({"chat", "achat", "stream_chat", "astream_chat"}), _begin_chat_engine),
    "synthesizer": (frozenset({"synthesize", "asynthesize", "get_response", "aget_response"}), _begin_synthesizer),
    "postprocessor": (frozenset(), _begin_postprocessor),
    "tool": (frozenset({"__call__", "call", "acall"}), _begin_tool),
    "program": (frozenset({"__call__", "acall", "stream_call", "astream_call"}), _begin_program),
    "extractor": (frozenset(), _begin_extractor),
    "pipeline": (frozenset({"run", "arun"}), _begin_ingestion),
}
