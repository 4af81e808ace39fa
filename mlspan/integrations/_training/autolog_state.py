"""Isolation of MLflow's autologging state: one state for each training instead of one for the process.

MLflow documents its autologging as not thread-safe. While one thread trains, it does not log the training of another
thread. One failure turns off the logging of all others. Two trainings that overlap can leave post-training metrics
turned off for good.
"""

from __future__ import annotations

import sys
from collections import UserList
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..._private_names import report_missing_name
from ...hooks.patching import Patch, Undo, apply_patches, resolve_target, set_attribute
from .current import call_after_trainings, read_training_state

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_session": "trainings of several threads at once share MLflow's session",
    "_session_stack": "trainings of several threads at once share MLflow's session",
    "_log_post_training_metrics_enabled": "trainings of several threads at once may turn off each other's metrics",
    "_AutologgingSessionManager": "trainings of several threads at once share MLflow's session",
    "_SklearnTrainingSession": "trainings of several threads at once share MLflow's session",
    "_SparkTrainingSession": "trainings of several threads at once share MLflow's session",
    "_AUTOLOGGING_METRICS_MANAGER": "trainings of several threads at once may turn off each other's metrics",
}

_SAFETY_MODULE: Final = "mlflow.utils.autologging_utils.safety"


_undos: dict[str, Undo] = {}  # by what has been isolated
_users: set[int] = set()  # ids of the hooks that are on


def isolate_autolog_state(user: object) -> None:
    """Give each training its own state, for every MLflow module that is imported by now, as long as *user* is on.

    Calling it again changes nothing but for modules that have been imported since. A name that this version of MLflow
    lacks is skipped, and a warning says what may then go wrong.
    """
    _users.add(id(user))
    for module, name, isolate in _ISOLATED_NAMES:
        place = f"{module}:{name}"
        if module in sys.modules and place not in _undos:
            loss = f"trainings of several threads at once, reliably, by MLflow's {module.removeprefix('mlflow.')}"
            _undos[place] = apply_patches([Patch(place, isolate, loss)])


def release_autolog_state(user: object) -> None:
    """Give MLflow its own state back once the last user is off, and no training is under way."""
    _users.discard(id(user))
    call_after_trainings(_restore_state)


def _restore_state() -> None:
    while _undos and not _users:
        _undos.popitem()[1]()


def _isolate_class_attribute(attribute: str, default: Any, target: str) -> Undo:
    """Put a subclass in the class's place, whose class attribute is separate for each training."""
    module, name = resolve_target(target)
    cls = getattr(module, name)
    if type(cls) is not type or not hasattr(cls, attribute):
        return _leave_shared(attribute)
    isolated_type = type("IsolatedType", (type,), {attribute: _make_isolated_property(f"{name}.{attribute}", default)})
    return set_attribute(module, name, isolated_type(name, (cls,), {"__module__": module.__name__}))


def _leave_shared(name: str) -> Undo:
    report_missing_name("MLflow", name, PRIVATE_NAMES.get(name, PRIVATE_NAMES["_session"]))
    return lambda: None


def _isolate_stack(target: str) -> Undo:
    """Put a list that is separate for each training in the place of a class's stack of sessions."""
    module, name = resolve_target(target)
    stack_of = getattr(module, name)
    if not isinstance(getattr(stack_of, "_session_stack", None), list):
        return _leave_shared("_session_stack")
    return set_attribute(stack_of, "_session_stack", _IsolatedStack(name))


def _isolate_metrics_switch(target: str) -> Undo:
    """Put a property that is separate for each training over a field of MLflow's manager of post-training metrics."""
    module, name = resolve_target(target)
    manager = type(getattr(module, name))
    field = "_log_post_training_metrics_enabled"
    if manager.__module__ != module.__name__ or not hasattr(getattr(module, name), field):
        return _leave_shared(field)
    return set_attribute(manager, field, _make_isolated_property(f"{module.__name__}.{field}", default=True))


def _make_isolated_property(key: str, default: object) -> property:
    return property(
        lambda _: read_training_state().get(key, default),
        lambda _, value: read_training_state().__setitem__(key, value),
    )


class _IsolatedStack(UserList[Any]):
    """A list whose items are separate for each training."""

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    def data(self) -> list[object]:  # type: ignore[override]  # a plain attribute in UserList
        return read_training_state().setdefault(self._key, [])  # type: ignore[no-any-return]


_ISOLATED_NAMES: Final[tuple[tuple[str, str, Callable[[str], Undo]], ...]] = (
    (_SAFETY_MODULE, "_AutologgingSessionManager", partial(_isolate_class_attribute, "_session", None)),
    ("mlflow.statsmodels", "AutologHelpers", partial(_isolate_class_attribute, "should_autolog", True)),
    ("mlflow.sklearn", "_SklearnTrainingSession", _isolate_stack),
    ("mlflow.sklearn", "_AUTOLOGGING_METRICS_MANAGER", _isolate_metrics_switch),
    ("mlflow.pyspark.ml", "_SparkTrainingSession", _isolate_stack),
    ("mlflow.pyspark.ml", "_AUTOLOGGING_METRICS_MANAGER", _isolate_metrics_switch),
)
