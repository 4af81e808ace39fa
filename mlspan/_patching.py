"""Patching: change attributes of other libraries, and change them back.

Every function here that changes something returns an ``Undo``, which leaves nothing behind. A target is named as text:
``"module:Class.method"`` or ``"module:name"``. What tracing itself changes is undone by ``tracing.shutdown()``, what an
integration changes by its ``autolog(disable=True)``; while an integration is being installed, an ``Installation`` notes
every change, and takes all of them back if the install fails.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from ._frames import skip_in_warnings
from ._guard import guard, log, warn_once
from ._held_functions import lead_removed_wrappers

Undo = Callable[[], None]  # removes what has been installed, and leaves nothing behind
ResultCallback = Callable[[tuple[Any, ...], dict[str, Any], Any], object]  # arguments, keyword arguments, result


class Patch(NamedTuple):
    """A patch and the place that it needs.

    Attributes:
        target: the place; several of them, separated by spaces, where versions of the library differ. The patch is
            applied to each that is there.
        apply: applies the patch to a target and returns its undo.
        loss: what is not recorded without the patch, for the warning: ``"calls of the async client"``.
        is_required: without the place nothing of the library can be traced, and the install is taken back.
        is_optional: some supported versions lack the place; no warning is due.
    """

    target: str
    apply: Callable[[str], Undo]
    loss: str
    is_required: bool = False
    is_optional: bool = False


class PatchPoint(NamedTuple):
    """A place that an install has looked for; *found* is None for a module that has not been imported yet."""

    target: str
    loss: str
    found: bool | None


class PatchPointMissing(Exception):  # noqa: N818  # a finding about a library's version, not an error in the program
    """The library has no such place, and without it nothing of the library can be traced."""


class Installation:
    """The changes that one install has made so far, and the patch points that it has looked for."""

    def __init__(self, *, silent: bool = False) -> None:
        self.points: dict[str, PatchPoint] = {}
        self._silent = silent
        self._undos = ExitStack()
        self._reported: set[str] = set()  # missing patch points that a warning has named

    @contextmanager
    def record(self) -> Iterator[None]:
        """Note what is patched inside the block, and take all of it back if the block fails."""
        token = installation_in_progress.set(self)
        try:
            with self._undos:
                yield
                self._undos.pop_all()
        finally:
            installation_in_progress.reset(token)

    def remember(self, undo: Undo) -> None:
        self._undos.callback(undo)

    def check_found_any(self) -> None:
        """Raise PatchPointMissing if patch points were looked for, and each of them is missing."""
        if self.points and all(point.found is False for point in self.points.values()):
            targets = ", ".join(self.points)
            losses = "; ".join(dict.fromkeys(point.loss for point in self.points.values()))
            raise PatchPointMissing(f"{targets} {'is' if len(self.points) == 1 else 'are'} missing: {losses}")

    def warn_about_missing(self) -> None:
        """Name in one warning the patch points that are missing, and what is not recorded without them."""
        missing = [
            point for point in self.points.values() if point.found is False and point.target not in self._reported
        ]
        self._reported.update(point.target for point in missing)
        if not self._silent:
            _warn_about_missing(missing)


def _warn_about_missing(missing: Sequence[Patch | PatchPoint]) -> None:
    if missing:
        targets = ", ".join(one.target for one in missing)
        losses = "; ".join(dict.fromkeys(one.loss for one in missing))
        warn_once("mlspan: the installed version has no %s. Not recorded: %s", targets, losses, place=targets)


installation_in_progress: ContextVar[Installation | None] = ContextVar("mlspan_installation", default=None)


def remember_undo(undo: Undo) -> Undo:
    """Have *undo* called if the install that is under way fails; return it. It may be called a second time."""
    if (current := installation_in_progress.get()) is not None:
        current.remember(undo)
    return undo


def note_patch_point(target: str, loss: str, *, found: bool | None) -> None:
    """Note a patch point for ``mlspan doctor --hooks``."""
    if (current := installation_in_progress.get()) is not None:
        current.points[target] = PatchPoint(target, loss, found)


def apply_patches(patches: Iterable[Patch]) -> Undo:
    """Apply *patches*, and return the function that removes them all.

    A patch whose place the installed version of the library lacks is left out. One warning names all such places and
    what is not recorded without them; while an integration is being installed, it follows at the end of that.

    Raises:
        PatchPointMissing: the place of a required patch is missing.
    """
    missing: list[Patch] = []
    with ExitStack() as undo:
        for patch in patches:
            found = [target for target in patch.target.split() if _is_there(target)]
            for target in found:
                undo.callback(patch.apply(target))
                note_patch_point(target, patch.loss, found=True)
            if found:
                continue
            if patch.is_optional:
                log.debug("mlspan: this version has no %s", patch.target)
                continue
            note_patch_point(patch.target, patch.loss, found=False)
            if patch.is_required:
                raise PatchPointMissing(f"{patch.target} is missing: {patch.loss}")
            missing.append(patch)
        if installation_in_progress.get() is None:
            _warn_about_missing(missing)
        return undo.pop_all().close


def _is_there(target: str) -> bool:
    """Return whether a module has what *target* names; the module is imported."""
    try:
        getattr(*resolve_target(target))
    except (ImportError, AttributeError):
        return False
    return True


def resolve_target(target: str) -> tuple[Any, str]:
    """Return the class or module that *target* belongs to, and the name it has there; the module is imported."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    return functools.reduce(getattr, filter(None, owner.split(".")), importlib.import_module(module)), name


def observe_method(target: str, callback: ResultCallback) -> Undo:
    """Call *callback* after each call of a method or function that succeeds, with its arguments and its result.

    No span is started. Errors of *callback* are logged and reach nobody. The result of a coroutine function is the
    coroutine, which has not run yet.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    owner, name = resolve_target(target)
    original, fn, enabled = vars(owner).get(name), getattr(owner, name), [True]

    @functools.wraps(fn)
    def call_and_report(*args: object, **kwargs: object) -> object:
        result = fn(*args, **kwargs)
        if enabled:
            with guard(f"looking at {name}"):
                callback(args, kwargs, result)
        return result

    return replace_attribute(owner, name, original, call_and_report, enabled)


def replace_function(target: str, make: Callable[[Any], object]) -> Undo:
    """Put ``make(original)`` in the place of a method or function.

    The replacement does not learn when it is removed: a reference that somebody has kept goes on working as it did.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    return replace_method(target, lambda original, _: make(original))


def replace_method(target: str, make: Callable[[Any, list[bool]], object]) -> Undo:
    """Put ``make(original, enabled)`` in the place of a method or function.

    *enabled* is emptied when the replacement is removed: a reference that somebody has kept then only calls the
    original.

    Returns:
        The function that puts the original back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, method or function.
    """
    owner, name = resolve_target(target)
    enabled = [True]
    return replace_attribute(owner, name, vars(owner).get(name), make(getattr(owner, name), enabled), enabled)


def replace_attribute(owner: object, name: str, original: object, replacement: Any, enabled: list[bool]) -> Undo:
    """Set attribute *name* of *owner* to *replacement*, a function, and return what restores the original.

    An earlier replacement of the same function, which a program may hold since then, leads to this one.

    Args:
        owner: a class or a module.
        name: the attribute.
        original: the entry that *owner* itself has under *name*; None to let it inherit the attribute again.
        replacement: the function that takes its place.
        enabled: a list that the undo empties, so that a replacement which looks at it does nothing more.
    """
    if isinstance(owner, type):  # else pickle would look for an inherited method's replacement on the parent class
        replacement.__module__, replacement.__qualname__ = owner.__module__, f"{owner.__qualname__}.{name}"
    undo = _set_entry(owner, name, original, skip_in_warnings(replacement), enabled)
    stop_leading = remember_undo(lead_removed_wrappers(owner, name, replacement))

    def undo_both() -> None:
        stop_leading()
        undo()

    return undo_both


def set_attribute(owner: object, name: str, value: object) -> Undo:
    """Set attribute *name* of *owner* to any *value*, and return what restores the entry that *owner* had, if any."""
    return _set_entry(owner, name, vars(owner).get(name), value, [True])


def _set_entry(owner: object, name: str, original: object, value: object, enabled: list[bool]) -> Undo:
    def undo() -> None:
        enabled.clear()  # a reference that somebody has kept falls silent too
        if vars(owner).get(name) is not value:
            return  # somebody has patched over us, and their patch still calls ours, which now passes calls through
        if original is None:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    setattr(owner, name, value)
    return remember_undo(undo)


class SharedPatch:
    """A patch that several users want: it is applied for the first of them and removed with the last."""

    def __init__(self, install: Callable[[], Undo]) -> None:
        self._install, self._undo, self._users = install, ExitStack(), 0
        self._lock = threading.RLock()

    def acquire(self) -> Undo:
        """Apply the patch unless it is in place, and return the function that ends this use of it."""
        with self._lock:
            if not self._users:
                self._undo.callback(self._install())
            self._users += 1
        uses = [True]

        def release() -> None:
            if uses:
                uses.clear()
                self._release()

        return release

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._undo.close()


_until_shutdown: dict[str, Undo] = {}
_until_shutdown_lock: Final = threading.RLock()


def install_until_shutdown(key: str, install: Callable[[], Undo]) -> None:
    """Call *install*, unless what has *key* is in place already; ``tracing.shutdown()`` calls the undo it returns."""
    with _until_shutdown_lock:
        if key not in _until_shutdown:
            _until_shutdown[key] = install()


def undo_at_shutdown() -> None:
    """Take back everything that :func:`install_until_shutdown` has installed."""
    with _until_shutdown_lock, ExitStack() as undo:
        for one in _until_shutdown.values():
            undo.callback(one)
        _until_shutdown.clear()
