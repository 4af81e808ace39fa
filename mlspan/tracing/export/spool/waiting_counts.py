"""Counts of the spans that wait in spools, read without OpenTelemetry's SDK, which takes a while to import."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from ..flush_result import name_destination
from .limits import SPOOL_SUFFIX, require_own
from .rows import SINK_BITS

_COUNT_BY_ADDRESS: Final = """select json_extract(origin, '$.tracking_uri'), count(*), min(stored)
    from span left join parcel on parcel.number = span.parcel where sinks & ? group by 1"""


def read_counts(db: sqlite3.Connection) -> Iterator[tuple[str, int, float]]:
    """Yield what the spool *db* holds: the destination, how many spans, and since when, in seconds since 1970."""
    row = db.execute("select value from meta where name = 'sinks'").fetchone()
    for kind, where in (orjson.loads(row[0]) if row else {}).items():
        for address, spans, since in db.execute(_COUNT_BY_ADDRESS, [SINK_BITS.get(kind, 0)]):
            named = {"tracking_uri": address} if address and kind == "mlflow" else where
            yield name_destination(kind, named), spans, since


def count_waiting_spans(folder: Path, destination: str) -> tuple[int, float | None]:
    """Return how many spans of ended processes wait in *folder* for *destination*, and since when.

    What a running process holds, and what cannot be read, is left out. Nothing is changed.
    """
    found: list[tuple[int, float]] = []
    for path in folder.glob(f"*{SPOOL_SUFFIX}"):
        try:
            require_own(path)
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0)
        except (OSError, sqlite3.Error):
            continue
        try:
            found += [(spans, since) for named, spans, since in read_counts(db) if named == destination]
        except (sqlite3.Error, ValueError):  # its process is running, or it is damaged: the doctor says which
            continue
        finally:
            db.close()
    return sum(spans for spans, _ in found), min((since for _, since in found), default=None)
