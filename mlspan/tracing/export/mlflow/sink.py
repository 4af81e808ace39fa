"""The MLflow sink: it finds the store, experiment and run of each trace segment and writes to them."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ...._bounded import BoundedDict
from ...._guard import warn_once
from ...operations.call_context import TraceOrigin
from ..sending.executor import BoundedExecutor
from ..shown_addresses import hide_user_info
from ..trusted_hosts import is_trusted, trust_host
from ..types import BackendUnavailable, Refusal, TraceSegment
from .addresses import default_tracking_uri, is_server_uri
from .names import is_experiment_id
from .store import MAX_CONNECTIONS, MAX_WRITERS, StoreDenied, StoreRejected, TraceStore

_ExperimentKey = tuple[str, str]  # tracking URI, experiment id
_MAX_KNOWN: Final = 10_000  # runs and experiments that were looked up: a loop of trainings starts a run for each
_ASSESSMENT_WAIT: Final = 3600.0  # seconds that an assessment waits for its trace to arrive
_OriginKey = tuple[str, str | None, str | None, str | None]  # tracking URI, run, experiment id, experiment name


class MlflowSink:
    """Sends trace segments to the stores that their origins name.

    Args:
        tracking_uri: used if an origin names none; None: MLflow's own default.
        experiment: name or id, used if neither a run nor an origin names one.
        run: id of the run, used if an origin names none; None: ``MLFLOW_RUN_ID``.
        of_spool: True if *tracking_uri* is what a spool says, and no setting of this process.
    """

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run: str | None = None,
        of_spool: bool = False,
    ) -> None:
        self.executor = BoundedExecutor(MAX_CONNECTIONS)
        self.default_uri = tracking_uri or default_tracking_uri(Path.cwd())
        if not of_spool:
            trust_host("mlflow", self.default_uri)
        self._experiment, self._run = experiment, run
        self._locating = threading.Lock()  # several batches at once may need the same new store or experiment
        self._stores: dict[tuple[str, bool], TraceStore] = {}
        self._known: BoundedDict[tuple[str, str, str], str | None] = BoundedDict(_MAX_KNOWN)

    @property
    def exit_grace(self) -> float:
        """Return the most seconds that the end of the process may wait: more for a database, which may be new."""
        return 3.5 if is_server_uri(self.default_uri) else 60.0

    @property
    def local(self) -> bool:
        return not is_server_uri(self.default_uri)

    @property
    def at_once(self) -> int:
        return 1 if self.local else MAX_WRITERS

    def prepare(self) -> None:
        """Import what the store needs. Importing MLflow takes seconds."""
        from . import batches  # noqa: F401

        if is_server_uri(self.default_uri):
            from . import server  # noqa: F401
        else:
            from .database import import_mlflow

            import_mlflow()

    def send(self, segments: Sequence[TraceSegment]) -> list[Refusal]:
        """Send as ``Sink.send`` does. An unavailable store or a refused experiment delays no others.

        If another store has answered, what an unavailable one has not taken is refused but kept.
        """
        from .batches import LocatedSegment, write_segments
        from .traces import find_segment_origin  # imported on the sender's thread, as the start must be fast

        refused: list[Refusal] = []
        places: dict[_ExperimentKey, list[LocatedSegment]] = defaultdict(list)
        unavailable: dict[str, BackendUnavailable] = {}  # by tracking URI
        stored: set[int] = set()  # ids of the segments that an unavailable store has taken before it failed
        refused_origins: dict[_OriginKey, str] = {}  # why the destination of an origin is refused
        located: dict[_OriginKey, tuple[_ExperimentKey, str | None, bool]] = {}
        self._look_up_runs(map(find_segment_origin, segments), unavailable)
        for segment in segments:
            origin = find_segment_origin(segment)
            uri = origin.tracking_uri or self.default_uri
            origin_key = (uri, origin.run_id, origin.experiment_id, origin.experiment_name)
            if uri in unavailable or _holds_only_assessments(segment):
                continue
            try:
                if origin_key not in refused_origins:
                    if origin_key not in located:
                        with self._locating:
                            place, run_id = self.find_destination(origin)
                            located[origin_key] = place, run_id, self._find_store(uri).accepts_attachments(place[1])
                    place, run_id, offload = located[origin_key]
                    places[place].append(LocatedSegment(segment, run_id, offload))
            except (StoreDenied, StoreRejected) as refusal:
                refused_origins[origin_key] = refusal.reason
            except BackendUnavailable as error:
                unavailable[uri] = error
            if origin_key in refused_origins:
                refused.append(Refusal(segment, refused_origins[origin_key], keep=True))
        for (uri, experiment_id), found in places.items():
            try:
                refused += [] if uri in unavailable else write_segments(self._find_store(uri), experiment_id, found)
                stored |= set() if uri in unavailable else {id(one.segment) for one in found}
            except BackendUnavailable as error:
                unavailable[uri] = error
                stored |= set(map(id, error.taken))
        refused += self._send_assessments(
            [segment for segment in segments if _holds_only_assessments(segment)], unavailable
        )
        if not unavailable:
            return refused
        stored -= {id(refusal.item) for refusal in refused}
        left = [segment for segment in segments if self._find_uri(segment) in unavailable and id(segment) not in stored]
        if len({self._find_uri(segment) for segment in segments}) > len(unavailable):
            return refused + [Refusal(one, unavailable[self._find_uri(one)].reason, keep=True) for one in left]
        first = next(iter(unavailable.values()))
        first.taken = [segment for segment in segments if id(segment) in stored]
        raise first

    def _find_uri(self, segment: TraceSegment) -> str:
        return segment.origin.tracking_uri or self.default_uri

    def _send_assessments(
        self, segments: Sequence[TraceSegment], unavailable: dict[str, BackendUnavailable]
    ) -> Iterator[Refusal]:
        """Send feedback on traces that were sent before, or that another process has yet to send. Yield refusals."""
        from .assessments import read_assessments

        for segment in segments:
            uri, context = segment.origin.tracking_uri or self.default_uri, segment.spans[0].get_span_context()
            if uri in unavailable or context is None:
                continue
            try:
                self._find_store(uri).write_assessments(
                    f"tr-{context.trace_id:032x}", list(read_assessments(segment.spans))
                )
            except StoreRejected as rejected:
                age = time.time() - (segment.spans[0].end_time or 0) / 1e9
                yield Refusal(segment, rejected.reason, keep=rejected.all_of_it or age < _ASSESSMENT_WAIT)
            except StoreDenied as denied:
                yield Refusal(segment, denied.reason, keep=True)
            except BackendUnavailable as error:
                unavailable[uri] = error

    def find_destination(self, origin: TraceOrigin) -> tuple[_ExperimentKey, str | None]:
        """Return the store's URI, the experiment's id and the run's id for traces of this origin.

        Raises StoreRejected if there is no such place, BackendUnavailable if the store does not answer.
        """
        uri = origin.tracking_uri or self.default_uri
        store = self._find_store(uri)
        if run_id := origin.run_id or self._run or os.environ.get("MLFLOW_RUN_ID"):
            experiment = self._look_up_once("run", uri, run_id, store.find_experiment_of_run)
            if experiment is not None:
                return (uri, experiment), run_id
            warn_once(
                "mlspan: there is no run %s in %s: its traces are stored without a run",
                run_id,
                hide_user_info(uri),
                place=(run_id, uri),
            )
        if origin.experiment_id:
            return (uri, self._check_experiment(uri, origin.experiment_id)), None
        name = origin.experiment_name or self._experiment
        if name is None or is_experiment_id(name):
            return (uri, self._check_experiment(uri, name or "0")), None
        return (uri, self._look_up_once("name", uri, name, store.find_or_create_experiment) or ""), None

    def _look_up_runs(self, origins: Iterable[TraceOrigin], unavailable: dict[str, BackendUnavailable]) -> None:
        """Remember the experiments of runs that are not known yet, where a store tells those of several at once.

        A store that is not there goes to *unavailable*.
        """
        unknown: dict[str, set[str]] = defaultdict(set)
        for origin in origins:
            uri = origin.tracking_uri or self.default_uri
            if origin.run_id and ("run", uri, origin.run_id) not in self._known:
                unknown[uri].add(origin.run_id)
        for uri, run_ids in unknown.items():
            if len(run_ids) < 2:
                continue
            try:
                with self._locating:
                    found = self._find_store(uri).find_experiments_of_runs(sorted(run_ids))
                for run_id, experiment in found.items():
                    self._known["run", uri, run_id] = experiment
            except BackendUnavailable as error:
                unavailable[uri] = error
            except StoreRejected:  # each run is asked for by itself, and its traces are refused
                continue

    def _check_experiment(self, uri: str, experiment_id: str) -> str:
        """Return *experiment_id* if the experiment exists and is active, else raise StoreRejected."""
        self._look_up_once("id", uri, experiment_id, self._find_store(uri).check_experiment)
        return experiment_id

    def _look_up_once(self, what: str, uri: str, key: str, find: Callable[[str], str | None]) -> str | None:
        """Return the result of *find* and remember it. A missing run is looked up again the next time."""
        known = (what, uri, key)
        if known in self._known:
            return self._known[known]
        found = find(key)
        if found is not None or what != "run":
            self._known[known] = found
        return found

    def _find_store(self, uri: str) -> TraceStore:
        key = uri, is_trusted("mlflow", uri)  # a host that is named later gets credentials then
        store = self._stores.get(key)
        if store is None:
            store = self._stores[key] = _open_store(uri, self.executor)
        return store

    def close(self) -> None:
        while self._stores:  # let go here: as the interpreter ends, urllib3 can no longer clean up after itself
            self._stores.popitem()[1].close()


def _holds_only_assessments(segment: TraceSegment) -> bool:
    """Return True if a segment holds nothing but feedback on a trace that was sent before."""
    from .assessments import is_assessment_span

    return all(map(is_assessment_span, segment.spans))


def _may_have_credentials(uri: str) -> bool:
    """Return whether a server may have the credentials of the environment. Log it if it may not, and there are some."""
    if is_trusted("mlflow", uri):
        return True
    if os.environ.get("MLFLOW_TRACKING_TOKEN") or os.environ.get("MLFLOW_TRACKING_USERNAME"):
        line = "mlspan: %s gets no credentials, as MLFLOW_TRACKING_URI names another host"
        warn_once(line, hide_user_info(uri), place=uri)
    return False


def _open_store(uri: str, executor: BoundedExecutor) -> TraceStore:
    """Return the store for a tracking URI. Raise StoreRejected for a folder that MLflow does not open."""
    if is_server_uri(uri):
        from .server import ServerStore

        return ServerStore(uri, executor, with_credentials=_may_have_credentials(uri))
    if uri.partition(":")[0].partition("+")[0] in {"sqlite", "postgresql", "mysql", "mssql"}:
        from .database import DatabaseStore

        return DatabaseStore(uri, executor)
    if uri.partition(":")[0] == "databricks":
        from .databricks import DatabricksStore

        return DatabricksStore(uri, executor)
    from .folder import FolderStore

    return FolderStore(uri, executor)
