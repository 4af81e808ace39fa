"""Pages of traces for sums: slices of time that do not overlap, which several connections read at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from .common import CommandFailure
from .reading import TraceFilter
from .reading_ahead import read_ahead
from .sql_databases import SqlDatabase
from .sql_terms import make_terms

_CONNECTIONS: Final = 2  # with which a database is read, beside that of the reader


class PageQuery(NamedTuple):
    """A query whose columns have these names, and its parameters."""

    text: str
    names: Sequence[str]
    values: Sequence[object]


def iterate_slices(
    database: SqlDatabase, where: TraceFilter, experiments: Collection[str], columns: set[str], size: int
) -> Iterator[TraceFilter]:
    """Yield *where* for one slice of time after the other, the newest first, of at least *size* traces but the last.

    Each slice ends where the one before it began, so a trace is in one of them, whatever lands meanwhile. A slice has
    more traces if many began in its first millisecond, and fewer that meet the other conditions.
    """
    while True:
        time = TraceFilter(since_ms=where.since_ms, until_ms=where.until_ms)
        terms, values = make_terms(time, experiments, columns)
        query = f"SELECT t.timestamp_ms FROM trace_info t WHERE {terms} ORDER BY t.timestamp_ms DESC LIMIT 1 OFFSET ?"  # noqa: S608  # values are parameters
        found = database.select(query, (*values, size - 1))
        if not found:
            yield where
            return
        yield replace(where, since_ms=found[0][0])
        where = replace(where, until_ms=found[0][0])


def read_pages(database: SqlDatabase, queries: Iterable[PageQuery]) -> Iterator[list[Any]]:
    """Yield the rows of each of *queries*, in their order, of which the next are read meanwhile.

    *database* itself is free for other queries, where more connections can be opened.
    """
    others = _open_others(database)
    free: SimpleQueue[SqlDatabase] = SimpleQueue()
    for one in others or [database]:
        free.put(one)

    def read_page(query: PageQuery) -> list[Any]:
        connection = free.get()
        try:
            return connection.select_at_once(*query)
        finally:
            free.put(connection)

    is_cut_off = False
    try:
        yield from read_ahead((partial(read_page, query) for query in queries), threads=max(len(others), 1))
    except KeyboardInterrupt:  # queries are under way, and closing would wait for them
        is_cut_off = True
        raise
    finally:
        for one in () if is_cut_off else others:
            one.close()


def _open_others(database: SqlDatabase) -> list[SqlDatabase]:
    """Return more connections to a database, as many as there are: a server may have no more to give."""
    others: list[SqlDatabase] = []
    with suppress(CommandFailure):
        for _ in range(_CONNECTIONS):
            others.append(database.open_another())  # noqa: PERF401  # those before one that is refused are kept
    return others
