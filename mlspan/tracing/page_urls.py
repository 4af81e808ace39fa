"""The addresses of pages in MLflow's viewer: of a trace, of a run, and of a model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from .._guard import warn_once
from .export.mlflow.addresses import model_url, run_url, trace_url
from .export.mlflow.names import is_experiment_id

if TYPE_CHECKING:
    from .export.mlflow.sink import MlflowSink
    from .operations.call_context import TraceOrigin


class PageUrls:
    """Makes the addresses of pages in the viewer of the MLflow that spans are sent to.

    Args:
        sink: writes to MLflow; None if MLflow is off, and no trace has a page.
        read_origin: says where the traces of the caller's context go.
        experiment: the name of the experiment that the settings name, if they name one.
    """

    def __init__(self, sink: MlflowSink | None, read_origin: Callable[[], TraceOrigin], experiment: str | None) -> None:
        self._sink = sink
        self._read_origin = read_origin
        self._experiment = experiment

    def build_run_url(self, experiment_id: str, run_id: str) -> str | None:
        """Return the page of a run in MLflow's own store; None if the store is unknown."""
        uri = self._find_store()
        return None if uri is None else run_url(uri, experiment_id, run_id)

    def build_model_url(self, experiment_id: str, model_id: str) -> str | None:
        """Return the page of a logged model; None if the store is unknown."""
        uri = self._find_store()
        return None if uri is None else model_url(uri, experiment_id, model_id)

    def _find_store(self) -> str | None:
        return os.environ.get("MLFLOW_TRACKING_URI") or (None if self._sink is None else self._sink.default_uri)

    def guess_trace_url(self, trace_id: str) -> str | None:
        """Return the page of a trace without asking a server; None if only the experiment's name is known."""
        if self._sink is None:
            return None
        from .export.destination import fill_destination

        destination = fill_destination(self._read_origin(), self._sink.default_uri, self._experiment, None)
        experiment = destination.experiment_id or destination.experiment_name or ""
        return trace_url(str(destination.tracking_uri), experiment, trace_id) if is_experiment_id(experiment) else None

    def find_trace_url(self, trace_id: str) -> str | None:
        """Return the page of a trace, or None if it cannot be found or MLflow is off. This may ask the server."""
        if (place := self._find_experiment()) is None:
            return None
        return trace_url(*place, trace_id)

    def find_experiment_id(self) -> str | None:
        """Return the experiment of the caller's traces, or None as above. This may ask the server, once for each."""
        place = self._find_experiment()
        return None if place is None else place[1]

    def _find_experiment(self) -> tuple[str, str] | None:
        """Return the tracking URI and the experiment of the caller's traces, or None."""
        if self._sink is None:
            return None
        from .export.mlflow.store import StoreRejected
        from .export.types import BackendUnavailable

        try:
            place, _ = self._sink.find_destination(self._read_origin())
        except (BackendUnavailable, StoreRejected) as unknown:
            warn_once("mlspan: no link to the trace: %s", unknown)
            return None
        return place
