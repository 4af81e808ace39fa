"""MLflow keeps the state of its autologging for the whole process; here each training has its own.

As it is, what trains in one thread is not logged while another thread trains, one failure turns the logging of all
others off, and two that overlap can leave post-training metrics off for good. MLflow says so: "not thread-safe".
"""

from __future__ import annotations

import sys
from collections import UserList
from typing import Any, Final

from ._fitting import state

_SAFETY: Final = "mlflow.utils.autologging_utils.safety"


def keep_apart() -> None:
    """Do so for what is imported of MLflow by now, once; what this version lacks is left alone."""
    _of_class(_SAFETY, "_AutologgingSessionManager", "_session", None)
    _of_class("mlflow.statsmodels", "AutologHelpers", "should_autolog", default=True)
    for module, session in (
        ("mlflow.sklearn", "_SklearnTrainingSession"),
        ("mlflow.pyspark.ml", "_SparkTrainingSession"),
    ):
        stack_of = getattr(sys.modules.get(module), session, None)
        if isinstance(getattr(stack_of, "_session_stack", None), list):
            stack_of._session_stack = _Stack(session)  # type: ignore[union-attr]  # it has one
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
    """A list that is another one for each training."""

    def __init__(self, key: str) -> None:
        self._key = key

    @property
    def data(self) -> list[Any]:  # type: ignore[override]  # where UserList has an attribute
        return state().setdefault(self._key, [])  # type: ignore[no-any-return]
