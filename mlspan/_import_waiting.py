"""Patching of libraries that are imported later: wait for the import of a module, and never cause it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import wrapt.importer

from ._guard import guard
from ._patching import Patch, Undo, apply_patches, installation_in_progress, note_patch_point, remember_undo
from ._private_names import report_missing_name

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_post_import_hooks": "a library that is waited for stays in its table when autolog is turned off, without effect",
    "_post_import_hooks_lock": "its table is changed without its lock when autolog is turned off",
}

# Likewise; a module that something odd has put into sys.modules may lack it.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_initializing": "that the import of a library is still under way",
}

_no_lock: Final = threading.RLock()
_announced: Final[dict[str, object]] = {}  # the spec of each module whose import has been announced, by its name


def _find_in_wrapt(name: str, fallback: Any) -> Any:
    found = getattr(wrapt.importer, name, None)
    if found is None:
        report_missing_name("wrapt", name, PRIVATE_NAMES[name])
        return fallback
    return found


def is_being_imported(name: str | None) -> bool:
    """Return True while the module *name* is being imported, and while its import is announced at the end."""
    return getattr(getattr(sys.modules.get(name or ""), "__spec__", None), "_initializing", False) is True


def is_half_imported(name: str) -> bool:
    """Return True while the code of the module *name* runs, if what waits for it is called once that has ended.

    XGBoost imports scikit-learn, whose hook imports MLflow, for which XGBoost's own hook waits as well.
    """
    if name not in _find_in_wrapt("_post_import_hooks", {}) or not is_being_imported(name):
        return False
    return _announced.get(name) is not getattr(sys.modules.get(name), "__spec__", None)


def call_when_imported(module: str, callback: Callable[[], object], *, again: bool = False) -> Undo:
    """Call *callback* when *module* is imported, at once if it already is; never import it.

    While the code of the module still runs, the call waits for its end.

    With *again* also when it is imported anew, as by programs that take modules out of ``sys.modules``.

    The returned function cancels the call. It then also leaves wrapt's table of pending calls, which has no public way
    out: without that table, the pending call stays in it and does nothing.
    """
    wanted = [True]
    pending: dict[str, list[object]] = _find_in_wrapt("_post_import_hooks", {})
    lock = _find_in_wrapt("_post_import_hooks_lock", _no_lock)

    def call_if_wanted(imported: object) -> None:
        _announced[module] = getattr(imported, "__spec__", None)
        if wanted:
            if again:
                with lock:
                    pending.setdefault(module, []).append(call_if_wanted)
            callback()

    def cancel() -> None:
        wanted.clear()
        with lock:
            if call_if_wanted in (calls := pending.get(module) or []):
                calls.remove(call_if_wanted)
                if not calls:
                    del pending[module]

    with lock:
        if waits := is_half_imported(module):
            pending[module].append(call_if_wanted)
    if not waits:
        wrapt.importer.register_post_import_hook(call_if_wanted, module)
    return remember_undo(cancel)


def install_when_imported(module: str, install: Callable[[], Undo], *, loss: str = "") -> Undo:
    """Call *install* when *module* is imported, at once if it already is; never import it.

    *loss* is what is not recorded without it, for ``mlspan doctor --hooks``.

    The returned function removes what *install* has installed, or cancels it if the module has not been imported.
    """
    installed, installation = ExitStack(), installation_in_progress.get()

    def install_now() -> None:
        if installation is not None:
            installation.points.pop(module, None)
        with guard(f"hooking into {module}"), installation.record() if installation is not None else ExitStack():
            installed.callback(install())
        if installation is not None:
            installation.warn_about_missing()

    note_patch_point(module, loss, found=None)
    cancel = call_when_imported(module, install_now)

    def undo() -> None:
        cancel()
        installed.close()

    return undo


def patch_when_imported(patches: Iterable[Patch]) -> Undo:
    """Apply each patch when the module that its target is in is imported, as :func:`install_when_imported` does."""
    with ExitStack() as undo:
        for patch in patches:
            module = patch.target.partition(":")[0]
            undo.callback(install_when_imported(module, partial(apply_patches, [patch]), loss=patch.loss))
        return undo.pop_all().close
