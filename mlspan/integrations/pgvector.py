"""pgvector's searches in PostgreSQL, as psycopg's cursors send them: SQLAlchemy, Django and LangChain use these, too.

Only a statement with both an operator of pgvector and a vector is recorded: other extensions have some of the same
operators. What is inserted or deleted is SQL like any other, and is not recorded.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from .._shape import get_nested
from ..hooks.call import Call
from ..hooks.hook import Hook
from ..hooks.patching import Patch, replace_method
from ..tracing.operations.noop import NOOP_OPERATION
from ._vectors.database import Asked, Database, Search, make_begin, make_hook
from ._vectors.documents import Document, make_document
from ._vectors.measures import Vectors

__all__ = ["HOOK", "autolog"]

_OPERATORS: Final = ("<->", "<=>", "<#>", "<+>", "<~>", "<%>")
_LITERAL: Final = re.compile(r"'\[\s*-?[\d.]+(?:[eE][-+]?\d+)?\s*(?:,\s*-?[\d.]+(?:[eE][-+]?\d+)?\s*)*\]'")
_TABLE: Final = re.compile(r"\bFROM\s+(?:ONLY\s+)?(\"[^\"]+\"(?:\.\"[^\"]+\")?|[\w.]+)", re.IGNORECASE)
_LIMIT: Final = re.compile(r"\bLIMIT\s+(\d+|%s|%\((\w+)\)s)", re.IGNORECASE)
_ID_NAMES: Final = ("id", "uuid", "langchain_id", "pk")
_DISTANCE_NAMES: Final = ("distance", "dist")
_SCORE_NAMES: Final = ("score", "similarity")
_NUMBER_TYPES: Final[Mapping[int, type]] = {20: int, 21: int, 23: int, 700: float, 701: float, 1700: float}
_MOST_ROWS: Final = 1000  # that are read; all of them are counted


class _Executed(NamedTuple):
    """A cursor whose statement has run. By itself it would look like a stream, of which nothing may be read."""

    cursor: Any


class _Vector(NamedTuple):
    """A stand-in for a vector that was a text: an array of its shape, without its numbers."""

    shape: tuple[int, ...]


def _find_statement(cursor: object, query: object) -> str | None:
    """Return the text of a statement that holds an operator of pgvector; None for any other."""
    if isinstance(query, str):
        text = query
    elif isinstance(query, bytes):
        text = query.decode(errors="replace")
    elif hasattr(query, "as_string") and any(operator in repr(query) for operator in _OPERATORS):
        text = query.as_string(cursor)
    else:
        return None
    return text if any(operator in text for operator in _OPERATORS) else None


def _ask(call: Call) -> Asked | None:
    """Read a statement; None if there is no vector in it."""
    cursor, params = call.args[0], call.argument("params")
    if (statement := _find_statement(cursor, call.argument("query"))) is None:
        return None
    given = _convert_params(params)
    literals = [_read_literal(one) for one in _LITERAL.findall(statement)]
    if not literals and not _holds_vector(given):
        return None
    text = _LITERAL.sub(lambda found: f"'[vector of {_read_literal(found[0]).shape[0]} numbers]'", statement)
    parts = {"statement": text, "parameters": given, "literals": literals}
    table = _TABLE.search(statement)
    connection = getattr(cursor, "connection", None)
    info = None if getattr(connection, "closed", True) else getattr(connection, "info", None)  # then it tells nothing
    host = get_nested(info, "host", str)
    return Asked(
        collection=table[1].replace('"', "") if table else None,
        namespace=get_nested(info, "dbname", str),
        query={name: part for name, part in parts.items() if part},
        top_k=_find_limit(statement, params),
        url=info if host and not host.startswith("/") else None,
    )


def _convert_params(params: object) -> object:
    """Return the parameters, with what stands for the vectors that are texts."""
    if isinstance(params, Mapping):
        return {name: _convert_param(one) for name, one in params.items()}
    return [_convert_param(one) for one in params] if isinstance(params, (list, tuple)) else []


def _convert_param(value: object) -> object:
    is_vector = isinstance(value, str) and value.startswith("[") and _LITERAL.fullmatch(f"'{value}'")
    return _read_literal(f"'{value}'") if is_vector else value


def _read_literal(literal: str) -> _Vector:
    return _Vector((literal.count(",") + 1,))


def _holds_vector(given: object) -> bool:
    vectors = Vectors()
    vectors.leave_out(given)
    return vectors.count > 0


def _find_limit(statement: str, params: object) -> object:
    """Return how many rows are wanted: a number in the statement, or the parameter in its place."""
    if (limit := _LIMIT.search(statement)) is None:
        return None
    if limit[1].isdecimal():
        return int(limit[1])
    if limit[2]:
        return params.get(limit[2]) if isinstance(params, Mapping) else None
    place = statement[: limit.start(1)].count("%s")
    return params[place] if isinstance(params, (list, tuple)) and place < len(params) else None


def _read_rows(got: _Executed) -> Iterator[Document]:
    """Read the rows that the server has sent, which the caller is yet to fetch."""
    result = getattr(got.cursor, "pgresult", None)
    columns = [column.name for column in got.cursor.description or ()]
    if result is None or not columns:
        return
    for row in range(result.ntuples):
        if row >= _MOST_ROWS:
            yield make_document(None)
            continue
        stored = {name: _read_cell(result, row, column) for column, name in enumerate(columns)}
        yield make_document(
            _find_first(stored, _ID_NAMES),
            score=_find_first(stored, _SCORE_NAMES),
            distance=_find_first(stored, _DISTANCE_NAMES),
            metadata=stored,
        )


def _read_cell(result: Any, row: int, column: int) -> object:
    """Return a value as a number or a text; one that is a vector is left out later."""
    data = result.get_value(row, column)
    if data is None or result.fformat(column) != 0:  # it is binary
        return data if data is None else f"[{len(data)} bytes]"
    text = data.decode(errors="replace")
    kind = _NUMBER_TYPES.get(result.ftype(column))
    return kind(text) if kind is not None else _convert_param(text)


def _find_first(stored: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((stored[name] for name in names if name in stored), None)


_DATABASE: Final = Database("postgresql", "psycopg>=3.1,<4", "psycopg", {})
_SEARCH: Final = Search("SELECT", _ask, _read_rows)
_TARGETS: Final = ("psycopg:Cursor.execute", "psycopg:AsyncCursor.execute")


def _trace_execute(fn: Any, enabled: list[bool], *, hook: Hook) -> object:
    """Return a traced ``execute``, which returns the cursor itself. Statements without an operator only pass by."""
    start = hook.make_starter(make_begin(_DATABASE, _SEARCH)).bind_function(fn)

    def start_search(args: tuple[object, ...], kwargs: dict[str, Any]) -> Any:
        query = args[1] if len(args) > 1 else kwargs.get("query")
        is_search = enabled and args and _find_statement(args[0], query) is not None
        return start(args, kwargs) if is_search else NOOP_OPERATION

    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def execute(*args: object, **kwargs: Any) -> object:
            with start_search(args, kwargs) as operation:
                cursor = await fn(*args, **kwargs)
                operation.record_result(_Executed(cursor))
                return cursor
    else:

        @functools.wraps(fn)
        def execute(*args: Any, **kwargs: Any) -> object:
            with start_search(args, kwargs) as operation:
                cursor = fn(*args, **kwargs)
                operation.record_result(_Executed(cursor))
                return cursor

    return execute


def _list_patches(hook: Hook) -> Iterator[Patch]:
    make = functools.partial(_trace_execute, hook=hook)
    for target in _TARGETS:
        yield Patch(target, functools.partial(replace_method, make=make), f"calls of {target.rpartition(':')[2]}")


HOOK = make_hook(_DATABASE, list_patches=_list_patches)
autolog = HOOK.autolog
