"""The MLflow sink: it finds the store, experiment and run of each trace segment and writes to them."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ...._guard import tell_once
from ...operations.call_context import Origin
from ..types import Away, Parcel, Refused
from .store import WRITERS, Denied, Rejected, Store, _default_uri, _is_server, shown

_Place = tuple[str, str]  # tracking URI, experiment id
_LATEST: Final = 3600.0  # seconds that an assessment waits for its trace to arrive
_Asked = tuple[str, str | None, str | None, str | None]  # tracking URI, run, experiment id, experiment name
_SERVER_PORT: Final = 5000  # the default port of ``mlflow ui``


class MlflowSink:
    """Sends trace segments to the stores that their origins name.

    Args:
        tracking_uri: used if an origin names none; None: MLflow's own default.
        experiment: name or id, used if neither a run nor an origin names one.
        run: id of the run, used if an origin names none; None: ``MLFLOW_RUN_ID``.
    """

    def __init__(
        self, *, tracking_uri: str | None = None, experiment: str | None = None, run: str | None = None
    ) -> None:
        self._uri = tracking_uri or _default_uri(Path.cwd())
        self._experiment, self._run = experiment, run
        self._locating = threading.Lock()  # several batches at once may need the same new store or experiment
        self._stores: dict[str, Store] = {}
        self._known: dict[tuple[str, str, str], str | None] = {}

    @property
    def exit_grace(self) -> float:
        """Return the most seconds that the end of the process may wait: more for a database, which may be new."""
        return 3.5 if _is_server(self._uri) else 60.0

    @property
    def local(self) -> bool:
        return not _is_server(self._uri)

    @property
    def at_once(self) -> int:
        return 1 if self.local else WRITERS

    def prepare(self) -> None:
        """Import what the store needs. Importing MLflow takes seconds."""
        from . import batches  # noqa: F401

        if _is_server(self._uri):
            from . import server  # noqa: F401
        else:
            from .database import import_mlflow

            import_mlflow()

    def send(self, parcels: Sequence[Parcel]) -> list[Refused]:
        """Send as ``Sink.send`` does. An unavailable store or a refused experiment delays no others."""
        from .batches import Addressed, write_all
        from .traces import origin_of  # imported on the sender's thread, as the start must be fast

        refused: list[Refused] = []
        places: dict[_Place, list[Addressed]] = defaultdict(list)
        unavailable: dict[str, Away] = {}  # by tracking URI
        refused_origins: dict[_Asked, str] = {}  # why the destination of an origin is refused
        for parcel in parcels:
            origin = origin_of(parcel)
            uri = origin.tracking_uri or self._uri
            origin_key = (uri, origin.run_id, origin.experiment_id, origin.experiment_name)
            if uri in unavailable or _is_late(parcel):
                continue
            try:
                if origin_key not in refused_origins:
                    with self._locating:
                        place, run_id = self.locate(origin)
                        offload = self._store(uri).takes_files(place[1])
                    places[place].append(Addressed(parcel, run_id, offload))
            except (Denied, Rejected) as refusal:
                refused_origins[origin_key] = refusal.reason
            except Away as error:
                unavailable[uri] = error
            if origin_key in refused_origins:
                refused.append(Refused(parcel, refused_origins[origin_key], keep=True))
        for (uri, experiment_id), found in places.items():
            try:
                refused += [] if uri in unavailable else write_all(self._store(uri), experiment_id, found)
            except Away as error:
                unavailable[uri] = error
        refused += self._assess([parcel for parcel in parcels if _is_late(parcel)], unavailable)
        for first in unavailable.values():
            raise first
        return refused

    def _assess(self, parcels: Sequence[Parcel], unavailable: dict[str, Away]) -> Iterator[Refused]:
        """Send feedback on traces that were sent before, or that another process has yet to send. Yield refusals."""
        from .assessments import assessments

        for parcel in parcels:
            uri, context = parcel.origin.tracking_uri or self._uri, parcel.spans[0].get_span_context()
            if uri in unavailable or context is None:
                continue
            try:
                self._store(uri).assess(f"tr-{context.trace_id:032x}", list(assessments(parcel.spans)))
            except Rejected as rejected:
                age = time.time() - (parcel.spans[0].end_time or 0) / 1e9
                yield Refused(parcel, rejected.reason, keep=rejected.all_of_it or age < _LATEST)
            except Denied as denied:
                yield Refused(parcel, denied.reason, keep=True)
            except Away as error:
                unavailable[uri] = error

    def locate(self, origin: Origin) -> tuple[_Place, str | None]:
        """Return the store's URI, the experiment's id and the run's id for traces of this origin.

        Raises StoreRejected if there is no such place, BackendUnavailable if the store does not answer.
        """
        uri = origin.tracking_uri or self._uri
        store = self._store(uri)
        if run_id := origin.run_id or self._run or os.environ.get("MLFLOW_RUN_ID"):
            experiment = self._look_up("run", uri, run_id, store.run_experiment)
            if experiment is not None:
                return (uri, experiment), run_id
            tell_once("mlspan: there is no run %s in %s: its traces are stored without a run", run_id, shown(uri))
        if origin.experiment_id:
            return (uri, self._checked(uri, origin.experiment_id)), None
        name = origin.experiment_name or self._experiment
        if name is None or name.isdigit():
            return (uri, self._checked(uri, name or "0")), None
        return (uri, self._look_up("name", uri, name, store.experiment_id) or ""), None

    def _checked(self, uri: str, experiment_id: str) -> str:
        """Return *experiment_id* if the experiment exists and is active, else raise StoreRejected."""
        self._look_up("id", uri, experiment_id, self._store(uri).check_experiment)
        return experiment_id

    def _look_up(self, what: str, uri: str, key: str, find: Callable[[str], str | None]) -> str | None:
        """Return the result of *find* and remember it. A missing run is looked up again the next time."""
        known = (what, uri, key)
        if known not in self._known:
            found = find(key)
            if found is None and what == "run":
                return None
            self._known[known] = found
        return self._known[known]

    def _store(self, uri: str) -> Store:
        store = self._stores.get(uri)
        if store is None:
            store = self._stores[uri] = _open(uri)
        return store

    def close(self) -> None:
        for store in self._stores.values():
            store.close()


def _page(tracking_uri: str, experiment_id: str) -> str:
    base = tracking_uri.rstrip("/") if _is_server(tracking_uri) else f"http://127.0.0.1:{_SERVER_PORT}"
    return f"{base}/#/experiments/{experiment_id}"


def trace_url(tracking_uri: str, experiment_id: str, trace_id: str) -> str:
    """Return the address of a trace in MLflow's viewer; for a database, in the one that ``mlflow ui`` would start."""
    return f"{_page(tracking_uri, experiment_id)}/traces?selectedEvaluationId=tr-{trace_id.removeprefix('tr-')}"


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page."""
    return f"{_page(tracking_uri, experiment_id)}/runs/{run_id}"


def _is_late(parcel: Parcel) -> bool:
    """Return True if a segment holds nothing but feedback on a trace that was sent before."""
    from .assessments import is_carrier

    return all(map(is_carrier, parcel.spans))


def _open(uri: str) -> Store:
    """Return the store for a tracking URI. Raise StoreRejected for a folder, in which MLflow keeps no traces."""
    if _is_server(uri):
        from .server import Server

        return Server(uri)
    if uri.partition(":")[0].partition("+")[0] in {"sqlite", "postgresql", "mysql", "mssql"}:
        from .database import Database

        return Database(uri)
    if uri.partition(":")[0] == "databricks":
        from .databricks import Databricks

        return Databricks(uri)
    msg = f"MLflow keeps no traces in a folder ({shown(uri)}): set MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or a server"
    raise Rejected(msg)
