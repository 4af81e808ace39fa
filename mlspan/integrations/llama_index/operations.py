"""Operations of LlamaIndex: the calls its dispatcher reports that become spans, and the record of each.

The dispatcher reports some calls two or three times (``retrieve`` and ``_retrieve``), and many that are of no interest
(splitters, parsers, templates). Such a call has no span: the operations inside of it stand below the one around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context as otel

from ..._shape import dig, get
from ...tracing.operations import semconv as sc
from ...tracing.operations.messages import Pieces
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Named, Observe, Record, Retrieval, Step, Tool
from . import requests as read


class Around(NamedTuple):
    """The call whose code is running, as the context holds it.

    Attributes:
        call_type: a key of ``CALL_TYPES``, or ``workflow``, ``agent``, ``step`` or ``build``.
        owner_id: the ``id()`` of the object that it was called on.
        name: the name of a tool or an agent.
        operation: the operation of the call.
    """

    kind: str
    owner: int
    name: str | None
    live: Live


class Seen(NamedTuple):
    """A call that LlamaIndex's dispatcher reports.

    Attributes:
        owner: the object that it is called on; None for a function.
        method: the name of the method or function.
        arguments: the arguments by name.
        capture_content: whether messages and other content are recorded.
        enclosing: the call inside of which it is made.
    """

    owner: Any
    method: str
    arguments: Mapping[str, Any]
    kept: bool
    around: Around | None


Begun = tuple[Record, "Observe[Any] | None"]  # the record of a call, and the function that reads its result

_AROUND: Final = otel.create_key("mlspan-llama-index")


def around() -> Around | None:
    """Return the call whose code is running; None outside of any."""
    found = otel.get_value(_AROUND)
    return found if isinstance(found, Around) else None


def surround(operation: Live, kind: str, owner: object, name: str | None = None) -> None:
    """Put a call into the context of its operation, where the calls inside of it find it."""
    operation.context = otel.set_value(_AROUND, Around(kind, id(owner), name, operation), operation.context)


def begin(kind: str, seen: Seen) -> Begun | None:
    """Begin the record of a call; None if it has no span of its own.

    That is so for a method that is not listed in ``CALL_TYPES``, for a call inside another call of the same object, and
    where the type's own function returns None.
    """
    methods, open_ = KINDS[kind]
    if methods and seen.method not in methods:
        return None
    above = seen.around
    if above is not None and above.kind == kind and above.owner == id(seen.owner):
        return None
    return open_(seen)


def _model(seen: Seen) -> Begun | None:
    """Begin a call of a model; a StructuredLLM is none, as it calls another model."""
    if type(seen.owner).__name__ == "StructuredLLM":
        return None
    return read.chat(seen.owner, seen.method, seen.arguments, capture_content=seen.kept)


def _predicting(seen: Seen) -> Begun:
    """Begin a structured prediction of a model."""
    return _structured(seen, get(seen.arguments, "output_cls"))


def _program(seen: Seen) -> Begun | None:
    """Begin a structured prediction of a program, unless it is part of an answer or of another prediction."""
    if seen.around is not None and seen.around.kind in _ANSWERING | _STRUCTURING:
        return None
    return _structured(seen, get(seen.owner, "output_cls"))


def _structured(seen: Seen, wanted: Any) -> Begun:
    """Return the record of a structured prediction; *wanted* is the class of its result."""
    record = Step(type="parser", name=f"structured_predict {getattr(wanted, '__name__', '')}".strip())
    if seen.kept:
        given = seen.arguments.get("prompt_args") or seen.arguments.get("kwds") or seen.arguments.get("kwargs")
        record.input = read.plain(given)
    return record, _observe_value


def _embedding(seen: Seen) -> Begun | None:
    """Begin a call of an embedding model; ``__call__`` is none, as it embeds nodes by the other methods."""
    return read.embeddings(seen.owner, seen.arguments, capture_content=seen.kept) if seen.method != "__call__" else None


def _retriever(seen: Seen) -> Begun:
    """Begin a retrieval."""
    record = Retrieval(source=type(seen.owner).__name__)
    top_k = dig(seen.owner, "similarity_top_k", int) or dig(seen.owner, "_similarity_top_k", int)
    record.top_k = top_k
    store = getattr(seen.owner, "_vector_store", None)
    if store is not None:
        record.extra["mlspan.llama_index.vector_store"] = type(store).__name__
    if seen.kept:
        record.input = read.query(next(iter(seen.arguments.values()), None))
    return record, _observe_documents


def _query(seen: Seen) -> Begun:
    """Begin a query of a query engine."""
    return _answering(seen, read.query(next(iter(seen.arguments.values()), None)) if seen.kept else None)


def _chat_engine(seen: Seen) -> Begun:
    """Begin a message to a chat engine, with the conversation's id and the chat so far."""
    begun = _answering(seen, None)
    memory = getattr(seen.owner, "_memory", None) or getattr(seen.owner, "memory", None)
    if conversation := read.conversation(memory):
        begun[0].extra[sc.CONVERSATION_ID] = conversation
    if seen.kept and isinstance(begun[0], Named):
        begun[0].output = Pieces() if "stream" in seen.method else None
        asked = {"role": "user", "content": read.query(seen.arguments.get("message"))}
        begun[0].input = {"messages": [*read.plain(seen.arguments.get("chat_history") or []), asked]}
    return begun


def _synthesizer(seen: Seen) -> Begun | None:
    """Begin a call of a response synthesizer, unless it is part of an engine's answer."""
    if seen.around is not None and seen.around.kind in _ANSWERING:
        return None
    asked = seen.arguments.get("query") or seen.arguments.get("query_str")
    return _answering(seen, read.query(asked) if seen.kept else None)


def _answering(seen: Seen, asked: Any) -> Begun:
    """Return the record of an engine or synthesizer that answers *asked*."""
    return Step(type="chain", name=type(seen.owner).__name__, input=asked), observe_answer


def observe_answer(record: Named, got: Any) -> None:
    """Read a whole answer, or a piece of its text."""
    if not isinstance(record.output, Pieces):
        record.output = read.text(got)
    elif piece := got if isinstance(got, str) else dig(got, "delta", str):
        record.output.append(piece)


def _postprocessor(seen: Seen) -> Begun:
    """Begin a call of a node postprocessor; a reranker is known by its class's name or by its event."""
    name = type(seen.owner).__name__
    record = Step(type="reranker" if "rerank" in name.lower() else "postprocessor", name=name)
    if seen.kept:
        asked = seen.arguments.get("query_str") or seen.arguments.get("query_bundle")
        record.input = {"query": read.query(asked), "documents": read.documents(seen.arguments.get("nodes"))}
    return record, _observe_documents


def _tool(seen: Seen) -> Begun | None:
    """Begin a call of a tool, unless it is the same call as the one around it, or the schema of a prediction."""
    metadata = get(seen.owner, "metadata")
    name = dig(metadata, "name", str) or type(seen.owner).__name__
    above = seen.around
    description = dig(metadata, "description", str)
    if above is not None and above.kind in _STRUCTURING:
        return None
    if above is not None and above.kind == "tool" and above.name == name:
        if isinstance(above.live.record, Tool):  # an adapter's or an agent's, which lacks nothing but the description
            above.live.record.description = description
        return None
    record = Tool(name=name, type="function", description=description)
    if seen.kept:
        given = seen.arguments.get("kwargs") or seen.arguments.get("args") or dict(seen.arguments)
        record.input = read.plain(given)
    return record, observe_tool


def observe_tool(record: Tool, got: Any) -> None:
    """Read a ToolOutput, and whether the tool has failed."""
    said = dig(got, "content", str)
    record.output = said if said is not None else read.plain(got)
    if get(got, "is_error") is True:
        error = get(got, "exception")
        kind = "_OTHER" if error is None else type(error).__qualname__
        record.failure = (kind, said or "")


def _extractor(seen: Seen) -> Begun:
    """Begin a call of a metadata extractor."""
    record = Step(type="extractor", name=type(seen.owner).__name__)
    if seen.kept:
        record.input = {"nodes": len(seen.arguments.get("nodes") or ())}
    return record, None


def _pipeline(seen: Seen) -> Begun:
    """Begin a run of an ingestion pipeline."""
    record = Step(type="index", name=type(seen.owner).__name__)
    if seen.kept:
        given = seen.arguments.get("documents") or seen.arguments.get("nodes") or ()
        record.input = {"documents": [str(get(one, "id_") or "") for one in given]}
    return record, _observe_count


def _observe_count(record: Step, got: Any) -> None:
    """Read the number of nodes."""
    record.output = {"nodes": len(got)} if hasattr(got, "__len__") else None


def _observe_documents(record: Any, got: Any) -> None:
    """Read a list of nodes."""
    record.output = read.documents(got)


def _observe_value(record: Named, got: Any) -> None:
    """Read a result as plain data."""
    record.output = read.plain(got)


def custom(seen: Seen, name: str) -> Begun:
    """Begin a call of a user's function or method that has LlamaIndex's decorator."""
    record = Step(name=name.rpartition("<locals>.")[2])
    if seen.kept:
        record.input = read.plain({key: one for key, one in seen.arguments.items() if key != "self"})
    return record, _observe_value


STREAMS: Final = frozenset({"stream_chat", "astream_chat", "stream_complete", "astream_complete"})
STRUCTURED: Final = frozenset(
    {"structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"}
)
_STRUCTURING: Final = frozenset({"structured", "program"})
_ANSWERING: Final = frozenset({"query", "chat_engine", "synthesizer"})  # synthesizers and programs inside have no span
# Type of call -> its methods (an empty set for all), and the function that begins the record.
KINDS: Final[dict[str, tuple[frozenset[str], Callable[[Seen], Begun | None]]]] = {
    "llm": (frozenset({"chat", "achat", "complete", "acomplete"}) | STREAMS, _model),
    "structured": (STRUCTURED, _predicting),
    "embedding": (frozenset(), _embedding),
    "retriever": (frozenset(), _retriever),
    "query": (frozenset({"query", "aquery"}), _query),
    "chat_engine": (frozenset({"chat", "achat", "stream_chat", "astream_chat"}), _chat_engine),
    "synthesizer": (frozenset({"synthesize", "asynthesize", "get_response", "aget_response"}), _synthesizer),
    "postprocessor": (frozenset(), _postprocessor),
    "tool": (frozenset({"__call__", "call", "acall"}), _tool),
    "program": (frozenset({"__call__", "acall", "stream_call", "astream_call"}), _program),
    "extractor": (frozenset(), _extractor),
    "pipeline": (frozenset({"run", "arun"}), _pipeline),
}
_BASES: Final = {  # LlamaIndex's base class -> type of the calls of its subclasses
    "BaseLLM": "llm",
    "MultiModalLLM": "llm",
    "BaseEmbedding": "embedding",
    "BaseSparseEmbedding": "embedding",
    "BaseRetriever": "retriever",
    "BaseImageRetriever": "retriever",
    "BaseQueryEngine": "query",
    "BaseChatEngine": "chat_engine",
    "BaseSynthesizer": "synthesizer",
    "BaseNodePostprocessor": "postprocessor",
    "BaseTool": "tool",
    "BasePydanticProgram": "program",
    "BaseExtractor": "extractor",
    "IngestionPipeline": "pipeline",
    "Workflow": "workflow",
}
_known: Final[WeakKeyDictionary[type, str]] = WeakKeyDictionary()


def kind_of(owner: object, method: str) -> str:
    """Return the type of a call by the classes that its owner inherits from.

    ``own`` stands for other classes of LlamaIndex, and an empty text for functions and classes of the user.
    """
    kind = _kind(type(owner)) if owner is not None else ""
    return "structured" if kind == "llm" and method in STRUCTURED else kind


def _kind(cls: type) -> str:
    """Return the type of calls of objects of *cls*, as in :func:`find_call_type`."""
    found = _known.get(cls)
    if found is None:
        theirs = [one for one in cls.__mro__ if one.__module__.startswith(("llama_index", "workflows"))]
        found = next((_BASES[one.__name__] for one in theirs if one.__name__ in _BASES), None)
        if found is None:
            found = "own" if cls in theirs else ""
        _known[cls] = found
    return found
