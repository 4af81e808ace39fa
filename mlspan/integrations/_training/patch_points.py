"""Patch points of a library that trains models: its training functions, its epochs, and its version.

A patch point is a class or a module together with the name of a function in it that mlspan replaces.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable

from ...hooks.patching import Undo, observe_method, replace_attribute
from .current import current_training
from .library import EpochResult, PatchPoint


def wrap_patch_point(owner: object, name: str, make: Callable[[object, list[bool]], object]) -> Undo:
    """Put ``make(function, on)`` in the function's place; the replacement stops recording when *on* is emptied."""
    owner, name = resolve_patch_point((owner, name))
    on = [True]
    return replace_attribute(owner, name, vars(owner).get(name), make(getattr(owner, name), on), on)


def resolve_patch_point(patch_point: PatchPoint) -> PatchPoint:
    """Return the place of the function itself, which may be inside a descriptor: scikit-learn's ``available_if``."""
    owner, name = patch_point
    own: object = vars(owner).get(name)
    return (own, "fn") if hasattr(own, "check") and hasattr(own, "fn") else patch_point


def is_function(patch_point: PatchPoint) -> bool:
    """Return whether a patch point is a function, or a descriptor that holds one.

    A property is none: scikit-learn hides methods by properties that raise, and a function in their place would be
    there for the caller.
    """
    owner, name = resolve_patch_point(patch_point)
    return callable(getattr(owner, name, None))


def observe_epochs(target: str, read: Callable[[tuple[object, ...]], EpochResult]) -> Undo:
    """Report each call of *target* to the current training as the end of an epoch.

    Args:
        target: ``module:Class.method``, which the library calls when an epoch ends.
        read: returns number and metrics of the epoch from the arguments of *target*.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such method.
    """

    def report_epoch(args: tuple[object, ...], kwargs: dict[str, object], _: object) -> None:
        if (fitting := current_training()) is not None:
            fitting.end_epoch(*read((*args, *kwargs.values())))

    return observe_method(target, report_epoch)


def find_version(modules: tuple[str, ...], name: str) -> str | None:
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
