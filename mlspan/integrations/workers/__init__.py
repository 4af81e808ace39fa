"""Tasks that other processes run: each runs in the context of its caller, so that its spans join the caller's trace.

There is one module for each framework; ``integrations.autolog()`` turns all of them on. They record no spans of their
own, except Celery's if it is asked for them.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Final

from ...hooks import catalog

if TYPE_CHECKING:
    from . import celery, dask, joblib, lightning, multiprocessing, ray, spark

__all__ = ["autolog", "celery", "dask", "joblib", "lightning", "multiprocessing", "ray", "spark"]

_NAMES: Final = ("celery", "dask", "joblib", "lightning", "multiprocessing", "ray", "spark")
catalog.register_integrations({f"{catalog.WORKERS_PREFIX}{name}": f"{__name__}.{name}" for name in _NAMES})


def autolog(disable: bool = False, silent: bool = False, disable_for_unsupported_versions: bool = True) -> None:
    """Turn on the context of tasks for every framework of this package, or off with *disable*.

    Args:
        disable: undo every patch.
        silent: write no log lines about these integrations.
        disable_for_unsupported_versions: leave out a framework whose installed version is untested.
    """
    from ...hooks.autolog_settings import AutologSettings
    from ...hooks.deferred_settings import turn_on

    settings = AutologSettings(silent=silent, any_version=not disable_for_unsupported_versions)
    for name in _NAMES:
        turn_on(importlib.import_module(f"{__name__}.{name}").HOOK, None if disable else settings)


def __getattr__(name: str) -> ModuleType:
    if name in _NAMES:
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
