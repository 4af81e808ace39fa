"""Counts of the spans that wait in spools, read without OpenTelemetry's SDK, which takes a while to import."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from ..flush_result import name_destination
from .inspection import SpoolInUse, open_read_only
from .limits import SPOOL_SUFFIX, require_own
from .rows import SINK_BITS
from .schema import UnknownSchemaVersion

_COUNT_BY_ADDRESS: Final = """select json_extract(origin, '$.tracking_uri'), count(*), min(stored)
    from span left join parcel on parcel.number = span.parcel where sinks & ? group by 1"""


def read_counts(db: sqlite3.Connection) -> Iterator[tuple[str, int, float]]:
    """Yield what the spool *db* holds: the destination, how many spans, and since when, in seconds since 1970."""
    row = db.execute("select value from meta where name = 'sinks'").fetchone()
    for kind, where in (orjson.loads(row[0]) if row else {}).items():
        for address, spans, since in db.execute(_COUNT_BY_ADDRESS, [SINK_BITS.get(kind, 0)]):
            named = {"tracking_uri": address} if address and kind == "mlflow" else where
            yield name_destination(kind, named), spans, since


class WaitingCount(NamedTuple):
    """The spans that wait for one destination."""

    spans: int
    since: float | None  # when the oldest was stored, in seconds since 1970
    unread_files: int  # files that were not looked into, as there are too many


def count_waiting_spans(folder: Path, destination: str, most_files: int = 200) -> WaitingCount:
    """Return how many spans of ended processes wait in *folder* for *destination*, in the first *most_files* files.

    What a running process holds, and what cannot be read, is left out. Nothing is changed.
    """
    found: list[tuple[int, float]] = []
    paths = sorted(folder.glob(f"*{SPOOL_SUFFIX}"))
    for path in paths[:most_files]:
        try:
            require_own(path)
            if (db := open_read_only(path)) is None:
                continue
            with closing(db):
                found += [(spans, since) for named, spans, since in read_counts(db) if named == destination]
        except (OSError, SpoolInUse, UnknownSchemaVersion, sqlite3.Error, ValueError):  # the doctor says which
            continue
    since = min((since for _, since in found), default=None)
    return WaitingCount(sum(spans for spans, _ in found), since, len(paths[most_files:]))
