"""Which calls that LlamaIndex tells of are operations, and what their records say at the start and the end.

LlamaIndex tells of some calls two or three times (``retrieve`` and ``_retrieve``), and of much that is its own business
(splitters, parsers, templates). What is no operation has no span: what it calls stands below the operation around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context as otel

from .._shape import dig, get
from ..tracing import semconv as sc
from ..tracing.live import Live
from ..tracing.messages import Pieces
from ..tracing.records import Named, Observe, Record, Retrieval, Step, Tool
from . import _llama_read as read


class Around(NamedTuple):
    """The operation whose code the caller is inside of."""

    kind: str
    owner: int  # the id() of the object that it was called on
    name: str | None
    live: Live


class Seen(NamedTuple):
    """A call that LlamaIndex tells of."""

    owner: Any  # the object that it is called on
    method: str
    arguments: Mapping[str, Any]
    kept: bool  # whether what is said is recorded
    around: Around | None


Begun = tuple[Record, "Observe[Any] | None"]

_AROUND: Final = otel.create_key("mlspan-llama-index")


def around() -> Around | None:
    found = otel.get_value(_AROUND)
    return found if isinstance(found, Around) else None


def surround(live: Live, kind: str, owner: object, name: str | None = None) -> None:
    """Have what runs inside of *live* know what it is inside of."""
    live.context = otel.set_value(_AROUND, Around(kind, id(owner), name, live), live.context)


def begin(kind: str, seen: Seen) -> Begun | None:
    """The record of an operation; None for a call that is part of the one around it, or LlamaIndex's own business."""
    methods, open_ = KINDS[kind]
    if methods and seen.method not in methods:
        return None
    above = seen.around
    if above is not None and above.kind == kind and above.owner == id(seen.owner):
        return None
    return open_(seen)


def _model(seen: Seen) -> Begun | None:
    if type(seen.owner).__name__ == "StructuredLLM":  # which asks another for structure
        return None
    return read.chat(seen.owner, seen.method, seen.arguments, kept=seen.kept)


def _predicting(seen: Seen) -> Begun:
    return _structured(seen, get(seen.arguments, "output_cls"))


def _program(seen: Seen) -> Begun | None:
    if seen.around is not None and seen.around.kind in _ANSWERING | _STRUCTURING:
        return None
    return _structured(seen, get(seen.owner, "output_cls"))


def _structured(seen: Seen, wanted: Any) -> Begun:
    record = Step(type="parser", name=f"structured_predict {getattr(wanted, '__name__', '')}".strip())
    if seen.kept:
        given = seen.arguments.get("prompt_args") or seen.arguments.get("kwds") or seen.arguments.get("kwargs")
        record.input = read.plain(given)
    return record, _observe_value


def _embedding(seen: Seen) -> Begun | None:
    return read.embeddings(seen.owner, seen.arguments, kept=seen.kept) if seen.method != "__call__" else None


def _retriever(seen: Seen) -> Begun:
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
    return _answering(seen, read.query(next(iter(seen.arguments.values()), None)) if seen.kept else None)


def _chat_engine(seen: Seen) -> Begun:
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
    if seen.around is not None and seen.around.kind in _ANSWERING:
        return None
    asked = seen.arguments.get("query") or seen.arguments.get("query_str")
    return _answering(seen, read.query(asked) if seen.kept else None)


def _answering(seen: Seen, asked: Any) -> Begun:
    return Step(type="chain", name=type(seen.owner).__name__, input=asked), observe_answer


def observe_answer(record: Named, got: Any) -> None:
    """A whole answer, or a piece of its text."""
    if not isinstance(record.output, Pieces):
        record.output = read.text(got)
    elif piece := got if isinstance(got, str) else dig(got, "delta", str):
        record.output.append(piece)


def _postprocessor(seen: Seen) -> Begun:
    name = type(seen.owner).__name__
    record = Step(type="reranker" if "rerank" in name.lower() else "postprocessor", name=name)
    if seen.kept:
        asked = seen.arguments.get("query_str") or seen.arguments.get("query_bundle")
        record.input = {"query": read.query(asked), "documents": read.documents(seen.arguments.get("nodes"))}
    return record, _observe_documents


def _tool(seen: Seen) -> Begun | None:
    told = get(seen.owner, "metadata")
    name = dig(told, "name", str) or type(seen.owner).__name__
    above = seen.around
    description = dig(told, "description", str)
    if above is not None and above.kind in _STRUCTURING:
        return None  # the schema of a structured prediction, which stands as a tool
    if above is not None and above.kind == "tool" and above.name == name:
        if isinstance(above.live.record, Tool):  # an adapter's, or an agent's that has said what else there is to say
            above.live.record.description = description
        return None
    record = Tool(name=name, type="function", description=description)
    if seen.kept:
        given = seen.arguments.get("kwargs") or seen.arguments.get("args") or dict(seen.arguments)
        record.input = read.plain(given)
    return record, observe_tool


def observe_tool(record: Tool, got: Any) -> None:
    """A ToolOutput, which may say that the tool has failed."""
    said = dig(got, "content", str)
    record.output = said if said is not None else read.plain(got)
    if get(got, "is_error") is True:
        error = get(got, "exception")
        kind = "_OTHER" if error is None else type(error).__qualname__
        record.failure = (kind, said or "")


def _extractor(seen: Seen) -> Begun:
    record = Step(type="extractor", name=type(seen.owner).__name__)
    if seen.kept:
        record.input = {"nodes": len(seen.arguments.get("nodes") or ())}
    return record, None


def _pipeline(seen: Seen) -> Begun:
    record = Step(type="index", name=type(seen.owner).__name__)
    if seen.kept:
        given = seen.arguments.get("documents") or seen.arguments.get("nodes") or ()
        record.input = {"documents": [str(get(one, "id_") or "") for one in given]}
    return record, _observe_count


def _observe_count(record: Step, got: Any) -> None:
    record.output = {"nodes": len(got)} if hasattr(got, "__len__") else None


def _observe_documents(record: Any, got: Any) -> None:
    record.output = read.documents(got)


def _observe_value(record: Named, got: Any) -> None:
    record.output = read.plain(got)


def custom(seen: Seen, name: str) -> Begun:
    """A function or method of the user's own that carries LlamaIndex's decorator."""
    record = Step(name=name.rpartition("<locals>.")[2])
    if seen.kept:
        record.input = read.plain({key: one for key, one in seen.arguments.items() if key != "self"})
    return record, _observe_value


STREAMS: Final = frozenset({"stream_chat", "astream_chat", "stream_complete", "astream_complete"})
STRUCTURED: Final = frozenset(
    {"structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"}
)
_STRUCTURING: Final = frozenset({"structured", "program"})
_ANSWERING: Final = frozenset({"query", "chat_engine", "synthesizer"})  # whose parts are told by what they call
KINDS: Final[dict[str, tuple[frozenset[str], Callable[[Seen], Begun | None]]]] = {  # the methods, or none for all
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
_BASES: Final = {  # LlamaIndex's class -> the kind of what inherits from it
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
    """What a call is, by what its owner inherits from: "own" of other classes of LlamaIndex's, "" of users'."""
    kind = _kind(type(owner)) if owner is not None else ""
    return "structured" if kind == "llm" and method in STRUCTURED else kind


def _kind(cls: type) -> str:
    found = _known.get(cls)
    if found is None:
        theirs = [one for one in cls.__mro__ if one.__module__.startswith(("llama_index", "workflows"))]
        found = next((_BASES[one.__name__] for one in theirs if one.__name__ in _BASES), None)
        if found is None:
            found = "own" if cls in theirs else ""
        _known[cls] = found
    return found
