"""Calls that LlamaIndex's dispatcher reports: the type of each, and the call inside of which it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context as otel

from ...tracing.operations.operation import Operation


class EnclosingCall(NamedTuple):
    """The call whose code is running, as the context holds it.

    Attributes:
        call_type: a key of ``operations.CALL_TYPES``, or ``workflow``, ``agent``, ``step`` or ``build``.
        owner_id: the ``id()`` of the object that it was called on.
        name: the name of a tool or an agent.
        operation: the operation of the call.
    """

    call_type: str
    owner_id: int
    name: str | None
    operation: Operation


class DispatchedCall(NamedTuple):
    """A call that LlamaIndex's dispatcher reports.

    Attributes:
        owner: the object that it is called on; None for a function.
        method: the name of the method or function.
        arguments: the arguments by name.
        capture_content: whether messages and other content are recorded.
        enclosing: the call inside of which it is made.
    """

    owner: object
    method: str
    arguments: Mapping[str, Any]
    capture_content: bool
    enclosing: EnclosingCall | None


_ENCLOSING_CALL_KEY: Final = otel.create_key("mlspan-llama-index")


def find_enclosing_call() -> EnclosingCall | None:
    """Return the call whose code is running; None outside of any."""
    found = otel.get_value(_ENCLOSING_CALL_KEY)
    return found if isinstance(found, EnclosingCall) else None


def set_enclosing_call(operation: Operation, kind: str, owner: object, name: str | None = None) -> None:
    """Put a call into the context of its operation, where the calls inside of it find it."""
    operation.context = otel.set_value(
        _ENCLOSING_CALL_KEY, EnclosingCall(kind, id(owner), name, operation), operation.context
    )


STREAM_METHODS: Final = frozenset({"stream_chat", "astream_chat", "stream_complete", "astream_complete"})
STRUCTURED_METHODS: Final = frozenset(
    {"structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"}
)
_CALL_TYPES_BY_BASE: Final = {  # LlamaIndex's base class -> type of the calls of its subclasses
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
_call_types_by_class: Final[WeakKeyDictionary[type, str]] = WeakKeyDictionary()


def find_call_type(owner: object, method: str) -> str:
    """Return the type of a call by the classes that its owner inherits from.

    ``own`` stands for other classes of LlamaIndex, and an empty text for functions and classes of the user.
    """
    kind = _find_class_call_type(type(owner)) if owner is not None else ""
    return "structured" if kind == "llm" and method in STRUCTURED_METHODS else kind


def _find_class_call_type(cls: type) -> str:
    """Return the type of calls of objects of *cls*, as in :func:`find_call_type`."""
    found = _call_types_by_class.get(cls)
    if found is None:
        theirs = [one for one in cls.__mro__ if one.__module__.startswith(("llama_index", "workflows"))]
        found = next((_CALL_TYPES_BY_BASE[one.__name__] for one in theirs if one.__name__ in _CALL_TYPES_BY_BASE), None)
        if found is None:
            found = "own" if cls in theirs else ""
        _call_types_by_class[cls] = found
    return found
