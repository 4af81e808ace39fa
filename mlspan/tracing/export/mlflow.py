"""Traces into MLflow: which store, which experiment, which run."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ..._guard import tell_once
from ..context import Origin
from .crew import Crew
from .parcel import Away, Parcel, Refused

if TYPE_CHECKING:
    from .mlflow_assessments import Assessment
    from .mlflow_trace import Counted, Info, Trace


class Rejected(Exception):  # noqa: N818  # an answer, not a mistake
    """The store will not take what it was given. *all_of_it*: nor anything else that goes the same way."""

    def __init__(self, reason: str, *, all_of_it: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.all_of_it = reason, all_of_it


class Denied(Away):
    """The store will not let us, until somebody gives us the right or starts it otherwise: worth another try then."""


class Store(Protocol):
    """A tracking server or a database. Every method may raise Away or Rejected.

    At most *most_traces* and about *most_spans* are worth one writing; the *crew* says how many may go on at once.
    """

    most_traces: int
    most_spans: int
    crew: Crew

    def run_experiment(self, run_id: str) -> str | None:
        """The id of the experiment that the run is in; None if there is no such run."""
        ...

    def experiment_id(self, name: str) -> str:
        """Of the experiment of this name, which is made if it is new."""
        ...

    def check_experiment(self, experiment_id: str) -> None:
        """Reject an experiment that does not exist or is deleted."""
        ...

    def takes_files(self, experiment_id: str) -> bool:
        """Whether the pictures and sounds of a trace can be stored beside it."""
        ...

    def info(self, trace_id: str) -> Info | None:
        """What is known of a trace already."""
        ...

    def counted(self, trace_id: str) -> dict[int, Counted]:
        """The spans of a trace that are stored already, by their ids."""
        ...

    def write(self, experiment_id: str, traces: Sequence[Trace]) -> None:
        """Store them all; writing one again replaces it."""
        ...

    def assess(self, trace_id: str, said: Sequence[Assessment]) -> None:
        """Store what is not stored yet. Rejects a trace that is not there."""
        ...

    def close(self) -> None: ...


WRITERS: Final = 4  # of spans to a tracking server: as many as the workers that it has unless it is told otherwise
CONNECTIONS: Final = 10  # to it, which requests that are many and small may fill: as many as MLflow's own client has
_Place = tuple[str, str]  # tracking URI, experiment id
_LATEST: Final = 3600.0  # seconds in which what is said of a trace waits for it to come
_Asked = tuple[str, str | None, str | None, str | None]  # tracking URI, run, experiment id, experiment name
_SERVER_PORT: Final = 5000  # where ``mlflow ui`` listens if nothing is said


class MlflowSink:
    """Sends parcels to the stores that their origins name.

    Args:
        tracking_uri: where an origin does not say; None: what MLflow itself would take.
        experiment: name or id, where neither a run nor an origin says.
        run: id of the run, where an origin does not say; None: ``MLFLOW_RUN_ID``.
    """

    def __init__(
        self, *, tracking_uri: str | None = None, experiment: str | None = None, run: str | None = None
    ) -> None:
        self._uri = tracking_uri or _default_uri(Path.cwd())
        self._experiment, self._run = experiment, run
        self._locating = threading.Lock()  # several batches may be the first for one store, or one experiment
        self._stores: dict[str, Store] = {}
        self._known: dict[tuple[str, str, str], str | None] = {}

    @property
    def exit_grace(self) -> float:
        """The most seconds that a process's end may wait: long for a database, whose first use may have to make it."""
        return 3.5 if _is_server(self._uri) else 60.0

    @property
    def local(self) -> bool:
        return not _is_server(self._uri)

    @property
    def at_once(self) -> int:
        return 1 if self.local else WRITERS

    def prepare(self) -> None:
        """Import what the store needs: of MLflow that takes seconds."""
        from . import mlflow_write  # noqa: F401

        if _is_server(self._uri):
            from . import mlflow_http  # noqa: F401
        else:
            from .mlflow_store import import_mlflow

            import_mlflow()

    def send(self, parcels: Sequence[Parcel]) -> list[Refused]:
        """As Sink has it. A store that is away, or an experiment that is closed to us, holds up no other."""
        from .mlflow_trace import origin_of  # on the exporter's thread, rather than as we are turned on
        from .mlflow_write import Addressed, write_all

        refused: list[Refused] = []
        places: dict[_Place, list[Addressed]] = defaultdict(list)
        away: dict[str, Away] = {}  # by tracking URI
        closed: dict[_Asked, str] = {}  # what an origin asks for, and why it may not have it
        for parcel in parcels:
            origin = origin_of(parcel)
            uri = origin.tracking_uri or self._uri
            asked = (uri, origin.run_id, origin.experiment_id, origin.experiment_name)
            if uri in away or _is_late(parcel):
                continue
            try:
                if asked not in closed:
                    with self._locating:
                        place, run_id = self.locate(origin)
                        offload = self._store(uri).takes_files(place[1])
                    places[place].append(Addressed(parcel, run_id, offload))
            except (Denied, Rejected) as no:
                closed[asked] = no.reason
            except Away as error:
                away[uri] = error
            if asked in closed:
                refused.append(Refused(parcel, closed[asked], keep=True))
        for (uri, experiment_id), found in places.items():
            try:
                refused += [] if uri in away else write_all(self._store(uri), experiment_id, found)
            except Away as error:
                away[uri] = error
        refused += self._assess([parcel for parcel in parcels if _is_late(parcel)], away)
        for first in away.values():
            raise first
        return refused

    def _assess(self, parcels: Sequence[Parcel], away: dict[str, Away]) -> Iterator[Refused]:
        """What is said of a trace that has gone before, or that another process has yet to send."""
        from .mlflow_assessments import assessments

        for parcel in parcels:
            uri, context = parcel.origin.tracking_uri or self._uri, parcel.spans[0].get_span_context()
            if uri in away or context is None:
                continue
            try:
                self._store(uri).assess(f"tr-{context.trace_id:032x}", list(assessments(parcel.spans)))
            except Rejected as rejected:
                age = time.time() - (parcel.spans[0].end_time or 0) / 1e9
                yield Refused(parcel, rejected.reason, keep=rejected.all_of_it or age < _LATEST)
            except Denied as denied:
                yield Refused(parcel, denied.reason, keep=True)
            except Away as error:
                away[uri] = error

    def locate(self, origin: Origin) -> tuple[_Place, str | None]:
        """The store, the experiment and the run that a trace of this origin belongs to.

        Raises Rejected where there is no such place, Away where the store cannot be asked.
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
        self._look_up("id", uri, experiment_id, self._store(uri).check_experiment)
        return experiment_id

    def _look_up(self, what: str, uri: str, key: str, find: Callable[[str], str | None]) -> str | None:
        """Ask once; what is not there now may be there later, so that is asked again."""
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
    """The address of a trace in MLflow's viewer; of a database, where ``mlflow ui`` would show it."""
    return f"{_page(tracking_uri, experiment_id)}/traces?selectedEvaluationId=tr-{trace_id.removeprefix('tr-')}"


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """The address of a run's page."""
    return f"{_page(tracking_uri, experiment_id)}/runs/{run_id}"


def _is_late(parcel: Parcel) -> bool:
    """Whether all of it is what is said of a trace that has gone before."""
    from .mlflow_assessments import is_carrier

    return all(map(is_carrier, parcel.spans))


def _open(uri: str) -> Store:
    if _is_server(uri):
        from .mlflow_http import Server

        return Server(uri)
    if uri.partition(":")[0].partition("+")[0] in {"sqlite", "postgresql", "mysql", "mssql"}:
        from .mlflow_store import Database

        return Database(uri)
    if uri.partition(":")[0] == "databricks":
        from .mlflow_databricks import Databricks

        return Databricks(uri)
    msg = f"MLflow keeps no traces in a folder ({shown(uri)}): set MLFLOW_TRACKING_URI=sqlite:///mlflow.db, or a server"
    raise Rejected(msg)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def shown(uri: str) -> str:
    """*uri* without its user and password."""
    scheme, sep, rest = uri.partition("://")
    return f"{scheme}{sep}{rest.rpartition('@')[2]}" if sep else uri


def _default_uri(folder: Path) -> str:
    """What MLflow itself takes: the database, unless the folder holds the runs of an older MLflow."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    if any(meta.parent.name.isdigit() for meta in (folder / "mlruns").glob("*/meta.yaml")):
        return (folder / "mlruns").as_uri()
    return f"sqlite:///{folder / 'mlflow.db'}"
