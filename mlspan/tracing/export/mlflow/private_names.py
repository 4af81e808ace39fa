"""The private names of MLflow's stores that mlspan uses, each with what is done where a version lacks it."""

from __future__ import annotations

from typing import Any, Final

from ...._private_names import report_missing_name
from .store import StoreRejected

SLOW: Final = "new traces are stored by its own methods, which takes several times as long"
_DIRECT: Final = "a database is opened by the class of its store, without what MLflow's plugins add to it"
_FILES: Final = "traces cannot be stored in a folder, and on Databricks only in Unity Catalog"
_PARTS: Final = "a trace in a folder cannot be added to: later parts of it are set aside"

# Each name, with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_tracking_service": _DIRECT,
    "_get_store": _DIRECT,
    "_check_experiment_is_active": SLOW,
    "_get_trace_artifact_location_tag": SLOW,
    "_upload_trace_data": _FILES,
    "_find_trace_dir": _PARTS,
    "_save_trace_info": _PARTS,
}
# Private names that some versions lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_engine_map": "nothing: the engine of a database that mlspan has made stays in MLflow's cache",
    "_db_uri_sql_alchemy_engine_map": "likewise, in older versions",
}


def report_missing(name: str, lost: str = "") -> None:
    """Log, once for each ability that is *lost*, that this version of MLflow lacks *name*."""
    report_missing_name("MLflow", name, lost or PRIVATE_NAMES[name])


def open_store(uri: str) -> Any:
    """Return MLflow's tracking store of *uri*; without the private function that chooses it, that of a database."""
    try:
        from mlflow.tracking._tracking_service.utils import _get_store
    except ImportError:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        if uri.startswith("databricks"):
            raise
        report_missing("_get_store")
        return SqlAlchemyStore(uri, "./mlruns")
    return _get_store(uri)


def forget_engine(store: Any, uri: str) -> None:
    """Take the engine of a database, which is about to get another name, out of MLflow's cache."""
    for name in ("_engine_map", "_db_uri_sql_alchemy_engine_map"):
        if isinstance(engines := getattr(type(store), name, None), dict):
            engines.pop(uri, None)


def has_bulk_names(store: Any) -> bool:
    """Return whether *store* has the private methods that a bulk insert calls."""
    for name in ("_check_experiment_is_active", "_get_trace_artifact_location_tag"):
        if not hasattr(store, name):
            report_missing(name)
            return False
    return True


def upload_spans(client: Any, stored: Any, data: Any) -> None:
    """Store the spans of a trace as a file: in a folder, or on Databricks.

    Raises:
        StoreRejected: this MLflow has no method for it.
    """
    if not hasattr(client, "_upload_trace_data"):
        report_missing("_upload_trace_data")
        msg = f"this version of MLflow has no _upload_trace_data, so {_FILES}"
        raise StoreRejected(msg, all_of_it=True)
    client._upload_trace_data(stored, data)


def save_summary(store: Any, info: Any) -> Any:
    """Store a TraceInfo in a folder, over what is there, and return it as it is stored.

    Raises:
        StoreRejected: the trace is there, and this MLflow has no method to replace it.
    """
    try:
        return store.start_trace(info)
    except Exception as error:
        # It has no class of its own; the summary has got its place by then, and its file is there.
        if type(error) is not Exception:
            raise
    for name in ("_find_trace_dir", "_save_trace_info"):
        if not hasattr(store, name):
            report_missing(name)
            raise StoreRejected(_PARTS)
    store._save_trace_info(info, store._find_trace_dir(info.trace_id, assert_exists=True), overwrite=True)
    return info
