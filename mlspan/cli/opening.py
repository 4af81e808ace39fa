"""The choice of the reader for a store."""

from __future__ import annotations

from .common import print_detail
from .mlflow_reader import MlflowReader
from .places import StoreLocation, find_database_file
from .reading import TraceReader
from .sql_databases import open_known_database
from .sql_reader import SqlReader


def open_reader(place: StoreLocation) -> TraceReader:
    """Return the reader of a store: by plain SQL for a database of a known schema, else by MLflow's client.

    MLflow's client takes seconds to import.

    Raises:
        CommandFailure: if MLflow is needed and missing, or the store does not answer.
    """
    database = open_known_database(place.uri, find_database_file(place.uri))
    print_detail(f"reading {place.display_uri} by {'MLflow' if database is None else 'SQL'}")
    return MlflowReader(place) if database is None else SqlReader(place, database)
