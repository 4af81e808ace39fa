"""The MLflow run and model that are active where a call is made, and the place where its trace belongs.

This is the first of the steps that decide which run a trace belongs to. Each step fills only what is still open:

1. :func:`get_active_run_id`, for each span that starts: the run of ``tracing.run``, else the one active in MLflow, else
   the one that was active around a task in the process that has sent it. :func:`read_trace_origin` puts it into a
   ``TraceOrigin``.
2. ``export/trace_assembler._merge_origins``: the run of the first span of the trace that has one.
3. ``export/destination.fill_destination``, before the trace is stored: the ``run`` setting, else ``MLFLOW_RUN_ID``.
4. ``export/mlflow/traces.find_segment_origin``, as the trace is sent: the run of a training inside the trace.
5. ``export/mlflow/sink.MlflowSink.find_destination``: looks the run up in the store, and if there still is none, the
   one of the settings or of ``MLFLOW_RUN_ID``. The trace goes to the experiment
   of the run; if there is no such run, to the experiment of the origin or of the settings, without a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, Final

from ..._guard import guard
from ..._import_waiting import install_when_imported
from ..._patching import Patch, SharedPatch, Undo, apply_patches, observe_method
from ..._private_names import report_missing_name
from ..operations.call_context import TraceOrigin, _call_scope
from . import destinations

_last_origin: tuple[dict[str, object], TraceOrigin] = (
    {},
    TraceOrigin(),
)  # the last values read, and the object made of them


_started_run: ContextVar[str | None] = ContextVar("mlspan_started_run", default=None)


_run_listeners: list[Callable[[object], object]] = []  # called with each run that MLflow makes active


_FLUENT_MODULE: Final = "mlflow.tracking.fluent"


_NO_TAGS: Final[Mapping[str, str]] = {}

# Private names, each with what is lost without it.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_active_run_stack": "of several tasks of one event loop that have started runs, each is counted to the latest",
    "_ACTIVE_MODEL_CONTEXT": "the active model is looked up by MLflow's public function, which takes longer",
}
# A private name of os.environ, and what is left out without it.
PRIVATE_FIELDS: Final[dict[str, str]] = {"_data": "nothing: variables are read the public way, which takes longer"}


def get_active_run_id() -> str | None:
    """Return the id of the caller's MLflow run: the one set by :func:`run`, else the one that is active in MLflow.

    This never imports MLflow: a process that has not imported it has no active run.
    """
    chosen = _call_scope.get().run_id
    if chosen is not None:
        return chosen
    fluent = sys.modules.get(_FLUENT_MODULE)
    stacks = getattr(fluent, "_active_run_stack", None)
    if stacks is None:
        return _read_public_run_id() or _call_scope.get().around_run
    # MLflow keeps one stack per thread, and the tasks of an event loop share it. So a run that was started in this
    # context is the caller's as long as it is active in any thread.
    started = _started_run.get()
    if started is not None and any(started == run.info.run_id for runs in _list_run_stacks(stacks) for run in runs):
        return started
    own = stacks.get()
    return str(own[-1].info.run_id) if own else _call_scope.get().around_run


def _read_public_run_id() -> str | None:
    """Return the run that MLflow's public function names, where MLflow is imported but lacks its private stack."""
    active_run = getattr(sys.modules.get(_FLUENT_MODULE), "active_run", None)
    if active_run is None:  # MLflow is not imported, or is being imported
        return None
    report_missing_name("MLflow", "_active_run_stack", PRIVATE_NAMES["_active_run_stack"])
    run = active_run()
    return None if run is None else str(run.info.run_id)


def get_active_model_id() -> str | None:
    """Return the id of the caller's LoggedModel: the one set by :func:`model`, else the one active in this thread."""
    chosen = _call_scope.get().model_id
    if chosen is not None:
        return chosen
    fluent = sys.modules.get(_FLUENT_MODULE)
    active = getattr(fluent, "_ACTIVE_MODEL_CONTEXT", None)
    if active is not None:
        return active.get().model_id or None
    if (read_public := getattr(fluent, "get_active_model_id", None)) is not None:
        report_missing_name("MLflow", "_ACTIVE_MODEL_CONTEXT", PRIVATE_NAMES["_ACTIVE_MODEL_CONTEXT"])
        return read_public() or None
    return _read_variable("MLFLOW_ACTIVE_MODEL_ID")


def get_tracking_uri() -> str | None:
    """Return the tracking URI that MLflow uses; None if MLflow is not imported."""
    read_uri = getattr(sys.modules.get("mlflow"), "get_tracking_uri", None)
    return None if read_uri is None else str(read_uri())


def _read_variable(name: str) -> str | None:
    """Return an environment variable, or None if it is unset or empty.

    ``os.environ.get`` raises and catches KeyError for a missing name, which costs more than looking it up first.
    """
    stored = getattr(os.environ, "_data", None)
    return (
        None if isinstance(stored, dict) and _encode_variable_name(name) not in stored else os.environ.get(name) or None
    )


@cache
def _encode_variable_name(name: str) -> object:
    """Return *name* in the form in which ``os.environ`` stores it."""
    return getattr(os.environ, "encodekey", str)(name)


def _list_run_stacks(stacks: Any) -> list[list[Any]]:
    """Return MLflow's stack of active runs of every thread."""
    return list(stacks.get_all_thread_values().values())


def track_run_starts() -> Undo:
    """Track which MLflow run is started in which context, until the returned function is called.

    This waits until MLflow is imported.
    """
    return _run_starts.acquire()


def add_run_listener(listener: Callable[[object], object]) -> Callable[[], None]:
    """Call *listener* with each run that MLflow makes active, until the returned function is called."""
    untrack = track_run_starts()
    _run_listeners.append(listener)

    def remove_listener() -> None:
        _run_listeners.remove(listener)
        untrack()

    return remove_listener


def _patch_active_run() -> Undo:
    """Observe ``ActiveRun.__init__``, which every start of a run passes through. Without it, only the stack is read."""
    loss = "which of several tasks of one event loop has started an MLflow run"
    return apply_patches(
        [Patch(f"{_FLUENT_MODULE}:ActiveRun.__init__", partial(observe_method, callback=_note_started_run), loss)]
    )


def _note_started_run(args: tuple[Any, ...], kwargs: dict[str, Any], _: object) -> None:
    run = args[1] if len(args) > 1 else kwargs["run"]
    _started_run.set(run.info.run_id)
    for listener in tuple(_run_listeners):
        with guard("calling a run listener"):
            listener(run)


_run_starts: Final = SharedPatch(partial(install_when_imported, _FLUENT_MODULE, _patch_active_run))


def read_trace_origin(
    *, tracking_uri: bool = True, experiment: bool = True, tags: Mapping[str, str] = _NO_TAGS
) -> TraceOrigin:
    """Return the destination and labels that the caller's context gives to a trace.

    ``mlflow.set_tracking_uri`` and ``mlflow.set_experiment`` set the environment variables that are read here.

    Args:
        tracking_uri: False if the Config sets the tracking URI, which is then not read.
        experiment: False if the Config sets the experiment, which is then not read.
        tags: tags of every trace.
    """
    global _last_origin  # most spans start where the last one did; a new object takes as long as all the rest
    call_scope = _call_scope.get()
    run_id = get_active_run_id()
    experiment_id = call_scope.experiment_id
    if experiment_id is None and experiment:
        experiment_id = destinations.find_experiment_id()
        if experiment_id is not None:
            run_id = call_scope.run_id  # MLflow's active run does not decide either
        else:
            experiment_id = _read_variable("MLFLOW_EXPERIMENT_ID")
    by_name = experiment and not experiment_id
    values: dict[str, Any] = {
        "tracking_uri": _read_variable("MLFLOW_TRACKING_URI") if tracking_uri else None,
        "experiment_id": experiment_id,
        "experiment_name": _read_variable("MLFLOW_EXPERIMENT_NAME") if by_name else None,
        "run_id": run_id,
        "model_id": get_active_model_id(),
        "session": call_scope.session,
        "user": call_scope.user,
        "tags": {**tags, **call_scope.tags} if tags else call_scope.tags,
    }
    last_values, trace_origin = _last_origin
    if values != last_values:
        trace_origin = TraceOrigin(**values)
        _last_origin = values, trace_origin
    return trace_origin
