"""Isolation of MLflow's autologging state: one state for each training instead of one for the process.

MLflow documents its autologging as not thread-safe. While one thread trains, it does not log the training of another
thread. One failure turns off the logging of all others. Two trainings that overlap can leave post-training metrics
turned off for good.
"""

from __future__ import annotations

import sys
from collections import UserList
from typing import Any, Final

from .training import state

_SAFETY: Final = "mlflow.utils.autologging_utils.safety"


def keep_apart() -> None:
    """Give each training its own state, for every MLflow module that is imported by now.

    Calling it again changes nothing. A name that this version of MLflow lacks is skipped.
    """
    _of_class(_SAFETY, "_AutologgingSessionManager", "_session", None)
    _of_class("mlflow.statsmodels", "AutologHelpers", "should_autolog", default=True)
    for module, session in (
        ("mlflow.sklearn", "_SklearnTrainingSession"),
        ("mlflow.pyspark.ml", "_SparkTrainingSession"),
    ):
        stack_of = getattr(sys.modules.get(module), session, None)
        if isinstance(getattr(stack_of, "_session_stack", None), list):
            stack_of._session_stack = _Stack(session)  # type: ignore[union-attr]  # the test above has found it
        manager = type(getattr(sys.modules.get(module), "_AUTOLOGGING_METRICS_MANAGER", None))
        if manager.__module__ == module:
            name = "_log_post_training_metrics_enabled"
            setattr(manager, name, _own(f"{module}.{name}", default=True))


def _of_class(module: str, name: str, attribute: str, default: Any) -> None:
    cls = getattr(sys.modules.get(module), name, None)
    if isinstance(cls, type) and type(cls) is type and hasattr(cls, attribute):
        apart = type("Apart", (type,), {attribute: _own(f"{name}.{attribute}", default)})
        setattr(sys.modules[module], name, apart(name, (cls,), {"__module__": module}))


def _own(key: str, default: Any) -> property:
    return property(lambda _: state().get(key, default), lambda _, value: state().__setitem__(key, value))


class _Stack(UserList[Any]):
    """A list whose items are separate for each training."""

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    def data(self) -> list[Any]:  # type: ignore[override]  # a plain attribute in UserList
        return state().setdefault(self._key, [])  # type: ignore[no-any-return]
