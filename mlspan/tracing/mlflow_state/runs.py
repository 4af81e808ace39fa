"""The MLflow run and model that are active where a call is made, and the place where its trace belongs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, wraps
from types import ModuleType
from typing import Any, Final

from ..._guard import guard
from ..operations.call_context import Origin, _scope

_last: tuple[dict[str, Any], Origin] = ({}, Origin())  # the last values read, and the object made of them


_started_run: ContextVar[str | None] = ContextVar("mlspan_started_run", default=None)


_hearers: list[Callable[[Any], object]] = []  # called with each run that MLflow makes active


_FLUENT: Final = "mlflow.tracking.fluent"


_NO_TAGS: Final[Mapping[str, str]] = {}


def active_run_id() -> str | None:
    """Return the id of the caller's MLflow run: the one set by :func:`run`, else the one that is active in MLflow.

    This never imports MLflow: a process that has not imported it has no active run.
    """
    chosen = _scope.get().run_id
    if chosen is not None:
        return chosen
    fluent = sys.modules.get(_FLUENT)
    stacks = getattr(fluent, "_active_run_stack", None)
    if stacks is None:
        return _scope.get().around_run
    # MLflow keeps one stack per thread, and the tasks of an event loop share it. So a run that was started in this
    # context is the caller's as long as it is active in any thread.
    started = _started_run.get()
    if started is not None and any(started == run.info.run_id for runs in _all(stacks) for run in runs):
        return started
    own = stacks.get()
    return str(own[-1].info.run_id) if own else _scope.get().around_run


def active_model_id() -> str | None:
    """Return the id of the caller's LoggedModel: the one set by :func:`model`, else the one active in this thread."""
    chosen = _scope.get().model_id
    if chosen is not None:
        return chosen
    active = getattr(sys.modules.get(_FLUENT), "_ACTIVE_MODEL_CONTEXT", None)
    found = _variable("MLFLOW_ACTIVE_MODEL_ID") if active is None else active.get().model_id
    return found or None


def _variable(name: str) -> str | None:
    """Return an environment variable, or None if it is unset or empty.

    ``os.environ.get`` raises and catches KeyError for a missing name, which costs more than looking it up first.
    """
    stored = getattr(os.environ, "_data", None)
    return None if isinstance(stored, dict) and _key(name) not in stored else os.environ.get(name) or None


@cache
def _key(name: str) -> Any:
    """Return *name* in the form in which ``os.environ`` stores it."""
    return getattr(os.environ, "encodekey", str)(name)


def _all(stacks: Any) -> list[list[Any]]:
    """Return MLflow's stack of active runs of every thread."""
    return list(stacks.get_all_thread_values().values())


def follow_runs() -> None:
    """Track, from now on, which MLflow run is started in which context. This waits until MLflow is imported."""
    import wrapt

    wrapt.register_post_import_hook(_note_starts, _FLUENT)


def hear_runs(hearer: Callable[[Any], object]) -> Callable[[], None]:
    """Call *hearer* with each run that MLflow makes active, until the returned function is called."""
    follow_runs()
    _hearers.append(hearer)
    return lambda: _hearers.remove(hearer)


def _note_starts(fluent: ModuleType) -> None:
    """Patch ``ActiveRun.__init__``, which every start of a run passes through. Without it, only the stack is read."""
    active_run_class: Any = getattr(fluent, "ActiveRun", None)
    if active_run_class is None or hasattr(active_run_class.__init__, "_mlspan"):
        return
    init = active_run_class.__init__

    @wraps(init)
    def noted(self: Any, run: Any) -> None:
        init(self, run)
        _started_run.set(run.info.run_id)
        for hearer in tuple(_hearers):
            with guard("calling a run listener"):
                hearer(run)

    noted._mlspan = True  # type: ignore[attr-defined]
    active_run_class.__init__ = noted


def origin(*, tracking_uri: bool = True, experiment: bool = True, tags: Mapping[str, str] = _NO_TAGS) -> Origin:
    """Return the destination and labels that the caller's context gives to a trace.

    ``mlflow.set_tracking_uri`` and ``mlflow.set_experiment`` set the environment variables that are read here.

    Args:
        tracking_uri: False if the Config sets the tracking URI, which is then not read.
        experiment: False if the Config sets the experiment, which is then not read.
        tags: tags of every trace.
    """
    global _last  # most spans start where the last one did, and making a new object takes as long as all the rest
    call_scope = _scope.get()
    experiment_id = _variable("MLFLOW_EXPERIMENT_ID") if experiment else None
    by_name = experiment and not experiment_id
    values: dict[str, Any] = {
        "tracking_uri": _variable("MLFLOW_TRACKING_URI") if tracking_uri else None,
        "experiment_id": experiment_id,
        "experiment_name": _variable("MLFLOW_EXPERIMENT_NAME") if by_name else None,
        "run_id": active_run_id(),
        "model_id": active_model_id(),
        "session": call_scope.session,
        "user": call_scope.user,
        "tags": {**tags, **call_scope.tags} if tags else call_scope.tags,
    }
    last_values, trace_origin = _last
    if values != last_values:
        trace_origin = Origin(**values)
        _last = values, trace_origin
    return trace_origin
