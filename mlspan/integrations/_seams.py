"""Patch points of a library that trains models: its training functions, its epochs, and its version.

A patch point is a class or a module together with the name of a function in it that mlspan replaces.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

from ._fitting import current
from ._library import Epoch
from ._patch import Undo, put, tap


def wrap(owner: Any, name: str, make: Callable[[Any, list[bool]], Any]) -> Undo:
    """Replace a function by ``make(function, on)``; return the undo.

    The undo empties the list *on*. A wrapper that somebody still holds a reference to then passes calls through.
    """
    own: Any = vars(owner).get(name)
    on = [True]
    if hasattr(own, "check") and hasattr(own, "fn"):  # scikit-learn's available_if keeps the function inside
        owner, name, own = own, "fn", own.fn
    return put(owner, name, own, make(getattr(owner, name), on), on)


def tell(target: str, read: Callable[[tuple[Any, ...]], Epoch]) -> Undo:
    """Report each call of *target* to the current training as the end of an epoch.

    Args:
        target: ``module:Class.method``, which the library calls when an epoch ends.
        read: returns number and metrics of the epoch from the arguments of *target*.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such method.
    """

    def seen(args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        if (fitting := current()) is not None:
            fitting.epoch(*read((*args, *kwargs.values())))

    return tap(target, seen)


def being_imported(name: str | None) -> bool:
    """Return True while the module *name* is being imported."""
    return bool(getattr(getattr(sys.modules.get(name or ""), "__spec__", None), "_initializing", False))


def version_of(modules: tuple[str, ...], name: str) -> str | None:
    """Return the version of the library, or None if it is unknown.

    It is ``__version__`` of the first imported module of *modules*, else the version of the distribution *name*.
    """
    for module in modules:
        if isinstance(version := getattr(sys.modules.get(module.partition(".")[0]), "__version__", None), str):
            return version
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # another distribution holds the module, such as xgboost-cpu
        return None
