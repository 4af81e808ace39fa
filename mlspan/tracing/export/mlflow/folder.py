"""The store in a folder (``mlruns``), where MLflow permits it: ``MLFLOW_ALLOW_FILE_STORE=true``, or an old MLflow.

MLflow's file store holds summaries of traces. The spans of each are one file beside its summary, as its own client
writes it. A later part of the trace is added by writing that file anew, under a lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..sending.executor import BoundedExecutor
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable
from . import private_names
from .database import ARTIFACT_LOCATION, DatabaseStore, lock_database, make_trace_info
from .parents import merge_with_stored
from .span_rows import prepare_for_mlflow_span
from .store import StoreRejected
from .traces import TraceSummary, TranslatedTrace

_SPANS_FILE: Final = "traces.json"  # beside a trace's other artifacts


class FolderStore(DatabaseStore):
    """``file:///...`` or a path. Raise StoreRejected if this MLflow opens no folder."""

    most_traces = 25  # under one lock

    def __init__(self, uri: str, executor: BoundedExecutor) -> None:
        if not _is_permitted():
            raise StoreRejected(
                f"MLflow opens no folder ({hide_user_info(uri)}) any more: set MLFLOW_TRACKING_URI=sqlite:///mlflow.db "
                "or to a server; or MLFLOW_ALLOW_FILE_STORE=true, and traces go to the folder"
            )
        super().__init__(uri, executor)

    def _write_to_store(self, store: Any, experiment_id: str, traces: Sequence[TranslatedTrace]) -> None:
        from mlflow.entities import Span

        with lock_database(self._uri):
            for trace in traces:
                trace_id = trace.summary.trace_id
                merged = trace.merges_stored  # the caller has merged it
                whole, attachable = (trace, {}) if merged else merge_with_stored(self, trace, merges=True)
                new = [Span(prepare_for_mlflow_span(span, trace_id)) for span in whole.spans]
                info = private_names.save_summary(store, make_trace_info(experiment_id, whole.summary))
                self._write_spans(store, trace_id, new, info)
                if attachable:
                    self._attach(store, trace_id, attachable)

    def _write_spans(self, store: Any, trace_id: str, spans: Sequence[Any], info: Any) -> None:
        """Write the file of a trace: the spans that it holds, and *spans*, which replace those with the same id."""
        from mlflow.entities import TraceData

        both = {span.span_id: span for span in (*self._read_spans(store, trace_id), *spans)}
        private_names.upload_spans(self._client, info, TraceData(spans=list(both.values())))

    def attach_spans(self, experiment_id: str, trace_id: str, parents: Mapping[int, int]) -> None:  # noqa: ARG002  # the protocol has it
        with self._translate_errors("complete the tree of a trace") as store, lock_database(self._uri):
            self._attach(store, trace_id, parents)

    def _attach(self, store: Any, trace_id: str, parents: Mapping[int, int]) -> None:
        attached = self._attach_stored(store, trace_id, parents)
        self._write_spans(store, trace_id, attached, store.get_trace_info(trace_id))

    def _read_spans(self, store: Any, trace_id: str) -> Sequence[Any]:
        """Return the spans in the file of a trace; none if there is no file, or half of one.

        Raises:
            BackendUnavailable: the file cannot be read at present. To write it anew would lose the spans in it.
        """
        from mlflow.entities import TraceData
        from mlflow.exceptions import MlflowException, MlflowTraceDataCorrupted
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            location = store.get_trace_info(trace_id).tags[ARTIFACT_LOCATION]
        except (MlflowException, KeyError):
            return ()  # the trace is new
        repository = get_artifact_repository(location)
        try:
            return list(TraceData.from_dict(repository.download_trace_data()).spans)
        except MlflowTraceDataCorrupted:
            return ()  # half of a file, after a kill
        except MlflowException as error:  # the same whether there is no file, or it cannot be read at present
            if _has_spans(repository, location):
                msg = f"cannot read the spans of {trace_id} in {hide_user_info(location)}: {error.__cause__ or error}"
                raise BackendUnavailable(msg, may_be_item=True) from error
        return ()

    def read_trace_summary(self, trace_id: str) -> TraceSummary | None:
        try:
            return super().read_trace_summary(trace_id)
        except Exception as error:  # half of a YAML file, after a kill, raises what its first reader makes of it
            if isinstance(error, BackendUnavailable):
                raise
            return None

    def _link_prompts(self, store: Any, trace: TranslatedTrace) -> None:
        """Leave it at the tag: a folder has no links from traces to prompts."""

    @property
    def _client(self) -> Any:
        from mlflow.tracing.client import TracingClient

        return TracingClient(self._uri)


def _has_spans(repository: Any, location: str) -> bool:
    """Return whether the artifacts of a trace include the file with its spans; an empty one is half of a file.

    Raises:
        BackendUnavailable: they cannot be listed.
    """
    try:
        return any(file.path == _SPANS_FILE and file.file_size != 0 for file in repository.list_artifacts())
    except Exception as error:  # clients of a dozen clouds raise all kinds of errors
        raise BackendUnavailable(f"cannot list the artifacts in {hide_user_info(location)}: {error}") from error


def _is_permitted() -> bool:
    """Return whether MLflow opens folders. True if MLflow is too old to have the variable, or is not installed."""
    try:
        import mlflow  # noqa: F401  # waits for an import in the application
        from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
    except ImportError:
        return True
    return bool(MLFLOW_ALLOW_FILE_STORE.get())
