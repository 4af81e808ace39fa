"""Tasks that other processes run: each is told what surrounds its caller, so that what it records joins that trace.

One module for each framework; ``integrations.autolog()`` turns all of them on. They record nothing of their own.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from . import celery, dask, joblib, multiprocessing, ray, spark

__all__ = ["autolog", "celery", "dask", "joblib", "multiprocessing", "ray", "spark"]

_NAMES: Final = ("celery", "dask", "joblib", "multiprocessing", "ray", "spark")


def autolog(disable: bool = False, silent: bool = False, disable_for_unsupported_versions: bool = True) -> None:
    """Carry what surrounds a task to its worker, for every framework here; with *disable*, for none."""
    from .._hook import Settings

    settings = Settings(silent=silent, any_version=not disable_for_unsupported_versions)
    for name in _NAMES:
        importlib.import_module(f"{__name__}.{name}").HOOK.apply(None if disable else settings)


def __getattr__(name: str) -> ModuleType:
    if name in _NAMES:
        return importlib.import_module(f"{__name__}.{name}")
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
