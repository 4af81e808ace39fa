"""Settings that wait for a library: the integration is imported when the library is, and gets its settings then.

``integrations.autolog()`` turns on dozens of integrations. A program that uses three libraries imports three of them.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from .._copies import call_at_retirement, take_over_recording
from .._guard import guard
from ..tracing import runtime
from . import catalog
from .autolog_settings import AutologSettings
from .patching import Undo, call_when_imported


@dataclass(frozen=True)
class Library:
    """The library of an integration.

    Attributes:
        modules: the modules whose import, of any of them, imports the integration.
        trains: the integration logs trainings.
    """

    modules: tuple[str, ...]
    trains: bool = False


class _Deferred(NamedTuple):
    settings: AutologSettings
    library: Library
    stop_waiting: Undo


_deferred: Final[dict[str, _Deferred]] = {}  # by the integration's name


def apply_settings(name: str, library: Library, settings: AutologSettings | None) -> None:
    """Give the integration *name* its settings, or turn it off with None.

    This happens now if the integration or a module of *library* is imported, else when one is. An ``autolog`` of the
    integration itself that is called in between stands.

    Args:
        name: the name of one of mlspan's own integrations.
        library: its library.
        settings: may have options that only other integrations have.
    """
    module = catalog.list_integrations()[name]
    with _take_settings(name):
        if module in sys.modules or any(one in sys.modules for one in library.modules):
            turn_on(importlib.import_module(module).HOOK, settings)
        elif settings is not None and not catalog.is_kept_off(name, silent=settings.silent):
            _defer(name, library, settings)


def apply_deferred(name: str) -> None:
    """Give the integration *name* the settings that wait for it, if there are some."""
    with _take_settings(name) as waiting:
        if waiting is not None and not (hook := catalog.load_integration(name).HOOK).has_been_set:
            _apply_to(hook, waiting.settings)  # recording is not resumed: there may have been a shutdown since


def forget_settings(name: str) -> _Deferred | None:
    """Let no settings wait for the integration *name*, and return those that have."""
    with _take_settings(name) as waiting:
        return waiting


@contextmanager
def _take_settings(name: str) -> Iterator[_Deferred | None]:
    """Take the settings that wait for the integration *name*; None if there are none.

    They wait until the block has ended: where the library is half imported, the hook waits for it in its turn.
    """
    waiting = _deferred.pop(name, None)
    try:
        yield waiting
    finally:
        if waiting is not None:
            waiting.stop_waiting()


def iterate_deferred() -> Iterator[tuple[str, AutologSettings, bool]]:
    """Yield the name of each integration that settings wait for, the settings, and whether it logs trainings."""
    for name, waiting in list(_deferred.items()):
        yield name, waiting.settings, waiting.library.trains


def turn_on(hook: Any, settings: AutologSettings | None) -> None:
    """Apply *settings* to *hook*, which may be of another distribution, and record again after a shutdown.

    Args:
        hook: the hook.
        settings: may have options that only other integrations have; None turns the hook off.
    """
    _apply_to(hook, settings)
    if hook.is_wanted:
        runtime.resume_recording()


def _apply_to(hook: Any, settings: AutologSettings | None) -> None:
    if settings is not None:
        options = {option: value for option, value in settings.options.items() if option in hook.options}
        settings = replace(settings, options=options)
    hook.apply_settings(settings)


def _defer(name: str, library: Library, settings: AutologSettings) -> None:
    take_over_recording()
    call_at_retirement((__name__, name), functools.partial(forget_settings, name))
    runtime.resume_recording()

    def apply() -> None:
        with guard(f"turning on {name}"):
            apply_deferred(name)

    waits = ExitStack()
    _deferred[name] = _Deferred(settings, library, waits.close)  # first, as another thread may import it right now
    for module in library.modules:
        waits.callback(call_when_imported(module, apply))
