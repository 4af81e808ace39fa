"""Installation that waits for MLflow: while another thread imports MLflow, a training waits for the import to end."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from ..._guard import guard
from ...hooks.patching import Undo, is_being_imported
from .library import PatchPoint
from .patch_points import wrap_patch_point
from .wrappers import find_outermost_layer, make_place


class DeferredInstall:
    """The installation of a hook once *modules* are imported; a training that begins before waits for that.

    Args:
        modules: the modules that the installation needs; they may import the library themselves.
        find_patch_points: finds the training functions.
        enable: called by a training that has waited; it calls ``install_when_imported`` again.
    """

    def __init__(
        self,
        modules: tuple[str, ...],
        find_patch_points: Callable[[], Iterable[PatchPoint]],
        enable: Callable[[], None],
    ) -> None:
        self._modules, self._find_patch_points, self._enable = modules, find_patch_points, enable
        self._held: Undo | None = None
        self._busy, self._turn = threading.Lock(), threading.Lock()

    def install_when_imported(self, install: Callable[[], None]) -> None:
        """Call *install*, now or when the first training begins."""
        if not self._busy.acquire(blocking=False):
            return  # an import that ends meanwhile calls this again, here or on another thread
        try:
            if not any(map(is_being_imported, self._modules)):
                self.stop_waiting()
                install()
            elif self._held is None:
                with guard("making trainings wait for MLflow"), ExitStack() as undo:
                    for owner, name in self._find_patch_points():
                        undo.callback(wrap_patch_point(owner, name, functools.partial(self._waiting, owner, name)))
                    self._held = undo.pop_all().close
        finally:
            self._busy.release()

    def stop_waiting(self) -> None:
        """Let no training wait any longer."""
        held, self._held = self._held, None
        if held is not None:
            held()

    def wait(self) -> None:
        """Wait for the imports, then install. An import that fails raises in the thread that does it, not here."""
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
        place = make_place((owner, name))

        @functools.wraps(fn)
        def waiting(*args: Any, **kwargs: Any) -> object:
            if not on:  # held since then
                return (find_outermost_layer(place, args) or fn)(*args, **kwargs)
            with guard("installing a hook"):
                self.wait()
            return (fn if on else getattr(owner, name))(*args, **kwargs)

        return waiting
