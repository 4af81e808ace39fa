"""The choice of the reader for a store."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from typing import Final

from .common import print_detail
from .mlflow_reader import MlflowReader
from .places import StoreLocation, find_database_file, is_tracking_server
from .reading import TraceReader
from .sql_databases import open_known_database
from .sql_reader import SqlReader

# Ways to sign in that MLflow's client alone knows, by plug-ins or by libraries of a cloud.
_OWN_AUTHENTICATION: Final = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4")
_HEADER_PLUGINS: Final = "mlflow.request_header_provider"


def open_reader(place: StoreLocation) -> TraceReader:
    """Return the reader of a store: by plain SQL for a database of a known schema, by REST for a server.

    Everything else is read by MLflow's client, which takes seconds to import.

    Raises:
        CommandFailure: if MLflow is needed and missing, or the store does not answer.
    """
    if is_tracking_server(place.uri) and not any(map(os.environ.get, _OWN_AUTHENTICATION)):
        return _open_server(place)
    database = open_known_database(place.uri, find_database_file(place.uri))
    print_detail(f"reading {place.display_uri} by {'MLflow' if database is None else 'SQL'}")
    return MlflowReader(place) if database is None else SqlReader(place, database)


def _open_server(place: StoreLocation) -> TraceReader:
    """Return the reader of a tracking server."""
    from .rest_client import AccessDenied
    from .rest_reader import RestReader

    print_detail(f"reading {place.display_uri} by REST")
    try:
        return RestReader(place)
    except AccessDenied:
        if not entry_points(group=_HEADER_PLUGINS):
            raise
        print_detail("a plug-in of MLflow's may sign in: reading by MLflow")
        return MlflowReader(place)
