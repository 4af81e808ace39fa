"""Index building: one operation for each index that is built or added to.

LlamaIndex's dispatcher reports only the embeddings that are made for it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from ..._guard import guard
from ..._shape import get
from ...hooks.hook import Call, Hook
from ...hooks.patching import Undo, replace, watched
from ...hooks.subclasses import watch_family
from ...tracing.operations.noop import NOTHING
from ...tracing.operations.operation import Live
from ...tracing.operations.records import Step
from .operations import around, surround

_BASE: Final = "llama_index.core.indices.base:BaseIndex"
_METHODS: Final = ("build_index_from_nodes", "insert_nodes", "ainsert_nodes", "insert", "ainsert")


def watch(hook: Hook) -> Undo:
    """Trace the methods of all index classes that build an index or add to one."""
    on = [True]
    undone = (
        watch_family(_BASE, {name: functools.partial(_open, hook, name) for name in _METHODS}),
        replace(f"{_BASE}.from_documents", functools.partial(_of_class, hook, on)),
    )

    def undo() -> None:
        on.clear()
        for one in undone:
            one()

    return undo


def _of_class(hook: Hook, on: list[bool], original: Any) -> Any:
    """Return a traced ``from_documents``, which is a class method."""
    return classmethod(watched(original.__func__, functools.partial(_open, hook, "from_documents"), on))


def _open(hook: Hook, method: str, args: Any, kwargs: Any) -> Any:
    """Start the operation of a build; return a no-op for one that is part of another build or of a pipeline."""
    above = around()
    if above is not None and above.kind in {"build", "pipeline"}:
        return NOTHING
    operation = hook.open(functools.partial(_begin, method), args, kwargs)
    if isinstance(operation, Live):
        with guard("starting a span"):
            surround(operation, "build", args[0])
    return operation


def _begin(method: str, call: Call) -> tuple[Step, Callable[[Any, Any], object]]:
    """Begin the record of a build: the class of the index, and the names of its documents or nodes."""
    owner, *rest = call.args
    name = owner.__name__ if isinstance(owner, type) else type(owner).__name__
    record = Step(type="index", name=f"{'insert into' if 'insert' in method else 'build'} {name}")
    if call.content:
        given: Any = rest[0] if rest else next(iter(call.kwargs.values()), None)
        what = "documents" if method in {"from_documents", "insert", "ainsert"} else "nodes"
        record.input = {what: [_named(one) for one in given] if isinstance(given, (list, tuple)) else [_named(given)]}
    return record, _observe


def _named(document: Any) -> str:
    """Return the file name of a document, or its id."""
    metadata = get(document, "metadata") or {}
    return str(metadata.get("file_name") or get(document, "id_") or "")


def _observe(record: Step, got: Any) -> None:
    """Read the number of nodes of an index."""
    struct = getattr(got, "index_struct", got)
    nodes = getattr(struct, "nodes_dict", None)
    if nodes is not None:
        record.output = {"nodes": len(nodes)}
