"""The catalog of integrations: the name that users and policies use for each, and its module.

No integration of mlspan's own is listed here: ``integrations/__init__.py`` scans its folder and registers each module
that it finds. To add one, add a file or a package there that has a ``HOOK`` and an ``autolog``, and a line for type
checkers in ``integrations/__init__.py``. A distribution from elsewhere registers such a module by an entry point::

    [project.entry-points.mlspan_integrations]
    tinyllm = "tinyllm_mlspan"

Entry points are read when somebody asks for them, never when mlspan is imported, and once for each ``sys.path``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from .._guard import warn_once
from ..tracing.settings import admin_policy

ENTRY_POINT_GROUP: Final = "mlspan_integrations"
WORKERS_PREFIX: Final = "workers."  # integrations that carry context to other processes, and record no spans

_registered: dict[str, str] = {}


def register_integrations(modules: Mapping[str, str]) -> None:
    """Add integrations to the catalog.

    Args:
        modules: by the name of each, the full name of its module, which need not be imported yet.
    """
    _registered.update(modules)


def list_integrations() -> dict[str, str]:
    """Return the module of every integration by name: those registered, then those of other distributions."""
    return {**_registered, **list_external_integrations()}


def list_external_integrations() -> dict[str, str]:
    """Return the module of each integration of another distribution, by its name; a registered name is left out."""
    found = _read_entry_points(tuple(map(str, sys.path)))
    return {name: module for name, module in found.items() if name not in _registered}


def load_integration(name: str) -> ModuleType:
    """Import the integration *name* and return its module.

    Raises:
        KeyError: the catalog has no such integration.
        ImportError: its module cannot be imported.
    """
    return importlib.import_module(list_integrations()[name])


def find_loaded_hook(name: str, module: str) -> Any:
    """Return the hook of an integration whose module has been imported; None if it has not."""
    return getattr(sys.modules.get(module), "HOOK", None) if name else None


def walk_hook(hook: Any) -> Iterator[Any]:
    """Yield *hook* and the hooks that belong to it."""
    yield hook
    for other in hook.also:
        yield from walk_hook(other)


def find_name(hook: object) -> str | None:
    """Return the name of the integration whose hook is *hook*; None if it belongs to none."""
    names = (name for name, module in list_integrations().items() if find_loaded_hook(name, module) is hook)
    return next(names, None)


def is_kept_off(name: str | None, module: str = "", *, silent: bool = False) -> bool:
    """Return whether the administrator's policy keeps an integration off, and warn of it once.

    Args:
        name: the integration's name; None if it has none, when only a policy that keeps all of them off does.
        module: stands for the name in the warning where there is none.
        silent: write no warning.
    """
    rules = admin_policy.load_policy()
    if not rules.disabled or (file := rules.find_disabling_file(name)) is None:
        return False
    if not silent:
        warn_once("mlspan: the policy %s keeps autolog of %s off", file, name or module, place=name or module)
    return True


def iterate_external_hooks(*, loaded_only: bool = False, silent: bool = False) -> Iterator[tuple[str, object]]:
    """Yield name and hook of each integration of another distribution.

    One that cannot be imported, or has no hook, is left out with a warning. One that the administrator's policy turns
    off is not even imported.

    Args:
        loaded_only: leave out what has not been imported yet.
        silent: write no warning about what the policy turns off.
    """
    for name, module in list_external_integrations().items():
        hook = find_loaded_hook(name, module)
        if hook is None and not loaded_only and not is_kept_off(name, silent=silent):
            hook = _load_external_hook(name, module)
        if hook is not None:
            yield name, hook


def _load_external_hook(name: str, module: str) -> object:
    """Import the module of another distribution and return its hook; None, with a warning, if it has none."""
    try:
        return importlib.import_module(module).HOOK
    except Exception as error:  # noqa: BLE001  # whatever another distribution's module raises
        warn_once(
            "mlspan: the integration %s (%s) cannot be loaded: %s: %s",
            *(name, module, type(error).__name__, error),
            place=name,
        )
        return None


@lru_cache(maxsize=4)
def _read_entry_points(path: tuple[str, ...]) -> Mapping[str, str]:
    """Return the modules of the entry points in *path*, by name; the first folder that has a name counts.

    ``importlib.metadata.entry_points`` would parse the entry points of every distribution, which takes 25 ms where 300
    are installed. A search for the name of the group takes a third of that.
    """
    found: dict[str, str] = {}
    for folder in path:
        with suppress(OSError, ValueError):  # a folder that is gone or may not be read
            for distribution in _find_distributions(folder or os.curdir):
                for point in distribution.entry_points:
                    if point.group == ENTRY_POINT_GROUP:
                        found.setdefault(point.name, point.value.partition(":")[0].strip())
    return found


def _find_distributions(folder: str) -> Iterator[importlib.metadata.Distribution]:
    """Yield the distributions in *folder* that may have entry points of the group; all of them if it is an archive."""
    if not os.path.isdir(folder):  # noqa: PTH112  # pathlib is slower, and this runs at the start of a program
        if os.path.isfile(folder):  # noqa: PTH113  # likewise
            yield from importlib.metadata.distributions(path=[folder])
        return
    group = ENTRY_POINT_GROUP.encode()
    for entry in os.listdir(folder):  # noqa: PTH208  # likewise
        if entry.endswith((".dist-info", ".egg-info")):
            with suppress(OSError), open(f"{folder}/{entry}/entry_points.txt", "rb") as file:  # noqa: PTH123  # likewise
                if group in file.read():
                    yield importlib.metadata.Distribution.at(f"{folder}/{entry}")
