"""Index building: one operation for each index that is built or added to.

LlamaIndex's dispatcher reports only the embeddings that are made for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_field
from ...hooks.call import Call
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, replace_method, trace_function
from ...hooks.subclasses import trace_subclasses
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.operation import Operation
from ...tracing.operations.records import Step
from .calls import find_enclosing_call, set_enclosing_call

_INDEX_CLASS: Final = "llama_index.core.indices.base:BaseIndex"
_BUILD_METHODS: Final = ("build_index_from_nodes", "insert_nodes", "ainsert_nodes", "insert", "ainsert")


def make_index_patches(hook: Hook) -> tuple[Patch, ...]:
    """Return the patches of the methods of all index classes that build an index or add to one."""
    loss = "the building of indexes"
    from_documents = functools.partial(replace_method, make=functools.partial(_wrap_from_documents, hook))
    return (
        Patch(_INDEX_CLASS, functools.partial(_trace_index_classes, hook), loss),
        Patch(f"{_INDEX_CLASS}.from_documents", from_documents, loss),
    )


def _trace_index_classes(hook: Hook, base: str) -> Undo:
    return trace_subclasses(base, {name: functools.partial(_start_build, hook, name) for name in _BUILD_METHODS})


def _wrap_from_documents(hook: Hook, original: Any, enabled: list[bool]) -> object:
    """Return a traced ``from_documents``, which is a class method."""
    start = functools.partial(_start_build, hook, "from_documents")
    return classmethod(trace_function(original.__func__, start, enabled))


def _start_build(hook: Hook, method: str, args: Any, kwargs: Any) -> object:
    """Start the operation of a build; return a no-op for one that is part of another build or of a pipeline."""
    above = find_enclosing_call()
    if above is not None and above.call_type in {"build", "pipeline"}:
        return NOOP_OPERATION
    operation = hook.start_operation(functools.partial(_begin_build, method), args, kwargs)
    if isinstance(operation, Operation):
        with guard("starting a span"):
            set_enclosing_call(operation, "build", args[0])
    return operation


def _begin_build(method: str, call: Call) -> tuple[Step, Callable[[Any, object], object]]:
    """Begin the record of a build: the class of the index, and the names of its documents or nodes."""
    owner, *rest = call.args
    name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
    record = Step(type="index", name=f"{'insert into' if 'insert' in method else 'build'} {name}")
    if call.capture_content:
        given: Any = rest[0] if rest else next(iter(call.kwargs.values()), None)
        what = "documents" if method in {"from_documents", "insert", "ainsert"} else "nodes"
        record.input = {
            what: [_name_document(one) for one in given]
            if isinstance(given, (list, tuple))
            else [_name_document(given)]
        }
    return record, _observe_index


def _name_document(document: object) -> str:
    """Return the file name of a document, or its id."""
    metadata = get_field(document, "metadata") or {}
    return str(metadata.get("file_name") or get_field(document, "id_") or "")


def _observe_index(record: Step, got: object) -> None:
    """Read the number of nodes of an index."""
    struct = getattr(got, "index_struct", got)
    nodes = getattr(struct, "nodes_dict", None)
    if nodes is not None:
        record.output = {"nodes": len(nodes)}
