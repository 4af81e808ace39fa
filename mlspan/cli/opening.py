"""The choice of the reader for a store."""

from __future__ import annotations

from .mlflow_reader import MlflowReader
from .places import StoreLocation, find_database_file
from .reading import TraceReader
from .sqlite_reader import SqliteReader, open_known_database


def open_reader(place: StoreLocation) -> TraceReader:
    """Return the reader of a store: by plain SQL for an SQLite database of a known schema, else by MLflow's client.

    MLflow's client takes seconds to import.

    Raises:
        CommandFailure: if MLflow is needed and missing, or the store does not answer.
    """
    file = find_database_file(place.uri)
    database = None if file is None else open_known_database(file)
    return MlflowReader(place) if database is None else SqliteReader(place, database)
