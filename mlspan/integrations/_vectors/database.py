"""The one mechanism of all vector databases: a table says which methods there are, and how to read them.

A method that searches is a :class:`Search`: *ask* reads its call into an :class:`Asked`, and *read* reads what it
returns into documents. One that writes is a :class:`Write`, which is counted. :func:`make_hook` makes the hook of such
a table.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry import trace

from ..._shape import get_field, get_nested, is_a
from ...hooks.call import Begin, Call
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, trace_method
from ...hooks.requests import read_server_fields
from ...tracing.operations import semconv as sc
from ...tracing.operations.database_records import DatabaseSearch, DatabaseWrite
from ...tracing.operations.records import Observe
from .documents import Document
from .measures import Vectors, count_items, measure_first

__all__ = ["Asked", "Database", "Search", "Write", "is_inside_call", "make_begin", "make_hook", "read_arguments"]


class Asked(NamedTuple):
    """The request that a call makes of a database.

    Attributes:
        collection: the collection, index or table.
        namespace: the database, tenant or namespace that it is in.
        query: what is looked for: texts, vectors, or a request that holds them.
        top_k: how many documents are wanted.
        filter: what else a record must fulfil.
        records: what is written or deleted, to be counted.
        url: the address of the server, as text or as what has a host and a port.
        is_for_vectors: whether vectors are searched although the call holds none that could be counted.
        read: reads the answer in place of the table's, where that depends on the call.
    """

    collection: object = None
    namespace: object = None
    query: object = None
    top_k: object = None
    filter: object = None
    records: object = None
    url: object = None
    is_for_vectors: bool = False
    read: Callable[[Any], Iterable[Document]] | None = None


Ask = Callable[[Call], "Asked | None"]  # None: this call is not to be recorded


class Search(NamedTuple):
    """A method that searches.

    Where *is_optional*, some supported versions of the library lack it. Where *is_awaited*, it returns a coroutine
    although it is no coroutine function.
    """

    action: str
    ask: Ask
    read: Callable[[Any], Iterable[Document]]
    is_optional: bool = False
    is_awaited: bool = False


class Write(NamedTuple):
    """A method that writes or deletes. *read_count* returns how many records that were, where the answer tells it."""

    action: str
    ask: Ask
    read_count: Callable[[Any], object] | None = None
    is_optional: bool = False
    is_awaited: bool = False


class Database(NamedTuple):
    """A library of a database: its name in ``db.system.name``, its versions, and its methods as *module:Class.method*.

    *is_general* says that it is used for much that has nothing to do with models. Its writes, and its searches without
    a vector, are then recorded inside of a trace only.
    """

    system: str
    requires: str
    module: str
    methods: Mapping[str, Search | Write]
    is_general: bool = False


def make_hook(database: Database, *also: Hook, list_patches: Callable[[Hook], Iterable[Patch]] = lambda _: ()) -> Hook:
    """Return the hook that traces the methods of *database*, and applies what *list_patches* returns."""

    def install(hook: Hook) -> Undo:
        traced = (_make_patch(hook, database, target) for target in database.methods)
        return apply_patches([*traced, *list_patches(hook)])

    return Hook(database.requires, database.module, install, also=also)


def _make_patch(hook: Hook, database: Database, target: str) -> Patch:
    """Return the patch that traces a method of the table."""
    method = database.methods[target]
    start = hook.make_starter(make_begin(database, method))
    trace_calls = functools.partial(trace_method, start=start, is_awaited=method.is_awaited)
    return Patch(target, trace_calls, f"calls of {target.rpartition(':')[2]}", is_optional=method.is_optional)


def make_begin(database: Database, method: Search | Write) -> Begin:
    """Return what turns a call of a method of the table into its record."""
    begin: Any = _begin_search if isinstance(method, Search) else _begin_write
    return functools.partial(begin, database, method)


def read_arguments(call: Call, **names: str) -> dict[str, object]:
    """Return the fields of an :class:`Asked` that are arguments of the call, by the names of these."""
    return {field: call.argument(name) for field, name in names.items()}


def _begin_search(
    database: Database, search: Search, call: Call
) -> tuple[DatabaseSearch, Observe[DatabaseSearch]] | None:
    """Begin the record of a search.

    There is none for what another call of the same library does, nor for a search of a general store that has neither
    a vector nor a trace around it.
    """
    if is_inside_call(database.system) or (asked := search.ask(call)) is None:
        return None
    vectors = Vectors()
    query = vectors.leave_out(asked.query)
    is_meant = vectors.count or asked.is_for_vectors or not database.is_general
    if not is_meant and not _is_inside_trace():
        return None
    record = DatabaseSearch(
        source=_read_name(asked.collection),
        top_k=_to_count(asked.top_k),
        vector_count=vectors.count or None,
        dimension=vectors.dimension,
        **_read_place(database, search.action, asked),
    )
    if call.capture_content:
        record.input = _phrase(asked.query, query)
        record.filter = _drop_empty(vectors.leave_out(asked.filter))
    is_told_above = _is_inside_retrieval()

    def observe(record: DatabaseSearch, got: object) -> None:
        found = list((asked.read or search.read)(got))
        record.returned = len(found)
        if call.capture_content:
            record.output = list(_shorten(found, record.dimension, is_told_above=is_told_above))

    return record, observe


def _begin_write(database: Database, write: Write, call: Call) -> tuple[DatabaseWrite, Observe[DatabaseWrite]] | None:
    """Begin the record of a write. There is none inside of another call, nor for a general store outside of a trace."""
    if is_inside_call(database.system) or (database.is_general and not _is_inside_trace()):
        return None
    if (asked := write.ask(call)) is None:
        return None
    record = DatabaseWrite(
        count=count_items(asked.records),
        dimension=measure_first(asked.query),
        **_read_place(database, write.action, asked),
    )
    if call.capture_content:
        record.filter = _drop_empty(Vectors().leave_out(asked.filter))

    def observe(record: DatabaseWrite, got: object) -> None:
        if write.read_count is not None and (count := _to_count(write.read_count(got))) is not None:
            record.count = count

    return record, observe


def _read_place(database: Database, action: str, asked: Asked) -> dict[str, Any]:
    """Return the fields that all records have: which database, where, and what it does."""
    return {
        "system": database.system,
        "action": action,
        "collection": _read_name(asked.collection),
        "namespace": _read_name(asked.namespace),
        **read_server_fields(asked.url),
    }


def _read_name(value: object) -> str | None:
    """Return a name, or several of them with commas between; None for anything else."""
    if isinstance(value, (list, tuple)):
        value = ",".join(one for one in value if isinstance(one, str))
    return str.__str__(value) if isinstance(value, str) and value else None


def _to_count(value: Any) -> int | None:
    """Return a count; numpy's integers become Python's."""
    if hasattr(value, "__index__") and not isinstance(value, bool):
        value = int(value)
    return value if isinstance(value, int) and is_a(value, int) and value >= 0 else None


def _phrase(given: object, plain: object) -> object:
    """Return what was asked as text, or as a request without its vectors; None where there was nothing but vectors."""
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, str) for one in given):
        return "\n".join(given)
    return None if _is_left_out(given, plain) else _drop_empty(plain)


def _drop_empty(plain: object) -> object:
    """Return None in the place of an empty text, list or dict. Objects of other libraries may have no truth value."""
    return None if isinstance(plain, (str, list, dict)) and not plain else plain


def _is_left_out(given: object, plain: object) -> bool:
    """Return whether *plain* is but words that stand for vectors."""
    if isinstance(plain, list) and isinstance(given, (list, tuple)):
        return all(map(_is_left_out, given, plain))
    return isinstance(plain, str) and not isinstance(given, str)


def _shorten(found: list[Document], dimension: int | None, *, is_told_above: bool) -> Iterator[Mapping[str, object]]:
    """Yield the documents without vectors, and without what the retriever around this search tells itself."""
    for document in found:
        if is_told_above:
            yield {name: one for name, one in document.items() if name not in {"content", "metadata"}}
        else:
            yield Vectors(dimension).leave_out(document)


def _is_inside_trace() -> bool:
    return trace.get_current_span().get_span_context().is_valid


def _is_inside_retrieval() -> bool:
    """Return whether the span around the call is a retrieval, which has the documents already."""
    return _read_attribute_around(sc.OPERATION) == sc.RETRIEVAL


def is_inside_call(system: str) -> bool:
    """Return whether the span around the call is ours of the same database: one method of a library calls another."""
    is_ours = get_nested(trace.get_current_span(), "instrumentation_scope.name", str) == "mlspan"
    return is_ours and _read_attribute_around(sc.DB_SYSTEM) == system


def _read_attribute_around(name: str) -> object:
    """Return an attribute of the current span."""
    known = get_field(trace.get_current_span(), "attributes")
    return known.get(name) if isinstance(known, Mapping) else None
