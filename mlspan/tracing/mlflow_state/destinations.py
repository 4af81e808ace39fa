"""The destination that ``mlflow.tracing.set_destination`` has set: an experiment, for all or for one context."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from ..._import_waiting import patch_when_imported
from ..._patching import Patch, Undo, observe_method

_MODULE: Final = "mlflow.tracing.destination"

_registries: dict[int, Any] = {}  # MLflow's registry, once something was set in it


def track_destinations() -> Undo:
    """Learn of the destinations that are set, once MLflow is imported, until the returned function is called."""
    loss = "the experiment that mlflow.tracing.set_destination names"
    patch = Patch(f"{_MODULE}:UserTraceDestinationRegistry.set", partial(observe_method, callback=_note_registry), loss)
    return patch_when_imported([patch])


def _note_registry(args: tuple[object, ...], _kwargs: dict[str, object], _result: object) -> None:
    _registries[0] = args[0]


def find_experiment_id() -> str | None:
    """Return the experiment that is set for the caller's context, or None. A table of Unity Catalog is none."""
    return getattr(_registries[0].get(), "experiment_id", None) if _registries else None
