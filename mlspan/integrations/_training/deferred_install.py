"""Trainings that wait: MLflow is being imported, by another thread maybe, and only then can anybody hook in."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ..._guard import guard
from ...hooks.patching import Undo
from .library import PatchPoint
from .patch_points import is_being_imported, wrap_patch_point


class Waiting:
    """Hooks in when *modules* are imported, or else has the first training wait for that.

    Args:
        modules: those that hooking in needs, and that may import the library themselves.
        seams: finds the functions that train.
        enable: is called by a training that has waited; it comes back to ``hook_in``.
    """

    def __init__(
        self, modules: tuple[str, ...], seams: Callable[[], Iterable[PatchPoint]], enable: Callable[[], None]
    ) -> None:
        self._modules, self._seams, self._enable = modules, seams, enable
        self._held: Undo | None = None
        self._busy, self._turn = threading.Lock(), threading.Lock()

    def hook_in(self, install: Callable[[], None]) -> None:
        """Call *install*, now or as the first training begins."""
        if not self._busy.acquire(blocking=False):
            return  # what is imported meanwhile has this called again, here or on another thread
        try:
            if not any(map(is_being_imported, self._modules)):
                self.let_go()
                install()
            elif self._held is None:
                with guard("having trainings wait for MLflow"), ExitStack() as undo:
                    for owner, name in self._seams():
                        undo.callback(wrap_patch_point(owner, name, functools.partial(self._waiting, owner, name)))
                    self._held = undo.pop_all().close
        finally:
            self._busy.release()

    def let_go(self) -> None:
        """Have no training wait any longer."""
        held, self._held = self._held, None
        if held is not None:
            held()

    def wait(self) -> None:
        """As a training begins: wait for the imports, then hook in. One that fails is its own thread's to tell."""
        if self._held is None:
            return
        for module in filter(is_being_imported, self._modules):
            try:
                importlib.import_module(module)
            except Exception:  # noqa: BLE001, S112  # whatever a module raises
                continue
        with self._turn:
            if self._held is not None:
                self._enable()

    def _waiting(self, owner: object, name: str, fn: Any, on: list[bool]) -> object:
        @functools.wraps(fn)
        def waiting(*args: object, **kwargs: object) -> object:
            if not on:
                return fn(*args, **kwargs)
            with guard("hooking in"):
                self.wait()
            return (fn if on else getattr(owner, name))(*args, **kwargs)

        return waiting
