"""Follow MLflow's own autologging: a hook learns when the application calls it, and with which options.

All of MLflow's ``autolog`` functions begin with ``revert_patches`` and put each patch
in place by ``gorilla.apply``. Both are wrapped here while a hook of ours is on. The names are public in their modules
but undocumented. If one is gone, a warning says so: MLflow's autologging first and ours after it still works, but a
later call of MLflow's goes unnoticed.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, Protocol

from ..._guard import guard, warn_once
from ..._private_names import report_missing_name
from ...hooks.patching import replace_function

UTILITIES: Final = "mlflow.utils.autologging_utils"
NAMES: Final[dict[str, tuple[str, str]]] = {  # what we need of MLflow: a module, and the name there
    "revert_patches": (UTILITIES, "revert_patches"),  # called with an integration's name by each autolog()
    "apply": ("mlflow.utils.gorilla", "apply"),  # called with a patch: its destination, name and obj
    "AUTOLOGGING_INTEGRATIONS": (UTILITIES, "AUTOLOGGING_INTEGRATIONS"),  # what each was last called with
}
GENERAL: Final = "mlflow"  # the name under which MLflow keeps what mlflow.autolog() was called with

GLOBALLY: Final = "globally_configured"  # a mark on what a library's autolog() was called with by mlflow.autolog()

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_ORIGINAL_NAME": "cross-validations are not recorded as one where MLflow's autologging of LightGBM is on already",
}

Asked = Mapping[str, Any]  # what an autolog() of MLflow's was called with, defaults included


class Follower(Protocol):
    """A hook of ours that follows MLflow's calls of autolog."""

    @property
    def integration(self) -> str | None:
        """MLflow's name for the library; None where MLflow has no autologging for it."""

    def on_general_autolog(self, asked: Asked) -> None:
        """Handle a call of ``mlflow.autolog()``, after which MLflow does not call the library's own."""

    def on_own_autolog(self, asked: Asked) -> AbstractContextManager[None]:
        """Handle a call of the library's own ``autolog()``; inside the block, MLflow removes its patches."""

    def cover(self, owner: object, name: str) -> None:
        """Handle a patch that MLflow has put on *owner* under *name*."""


_followers: list[Follower] = []
_undo = ExitStack()
_by_us = threading.local()


def follow(follower: Follower) -> bool:
    """Report MLflow's calls to *follower* from now on; return False if this MLflow lacks a name that this needs.

    Before MLflow's autologging is imported, do nothing and return True.
    """
    if UTILITIES not in sys.modules or follower in _followers:
        return True
    if any(_look_up(name) is None for name in NAMES):
        return False
    if not _followers:
        for name, make in (("revert_patches", _wrap_revert_patches), ("apply", _wrap_apply)):
            _undo.callback(replace_function(":".join(NAMES[name]), make))
    _followers.append(follower)
    return True


def unfollow(follower: Follower) -> None:
    """Report no more calls to *follower*; after the last follower, restore MLflow's functions."""
    if follower in _followers:
        _followers.remove(follower)
        if not _followers:
            _undo.close()


@contextmanager
def own_autolog_call() -> Iterator[None]:
    """Mark this thread's calls of MLflow's ``autolog`` inside the block as ours: no follower sees them."""
    before = getattr(_by_us, "on", False)
    _by_us.on = True
    try:
        yield
    finally:
        _by_us.on = before


def read_asked(integration: str | None) -> Asked | None:
    """Return what MLflow's autologging of a library was last called with; None before any call, or if not known."""
    if UTILITIES not in sys.modules:
        return None
    return (_look_up("AUTOLOGGING_INTEGRATIONS") or {}).get(integration or "") or None


def find_stored_name(owner: object, name: str) -> str | None:
    """Return the name under which MLflow keeps what its patch of *name* has replaced; None without a patch.

    MLflow's next patch in this place calls what is kept, and not what is there. Its autologging of LightGBM patches
    scikit-learn's cross-validations as well.
    """
    gorilla = sys.modules.get(NAMES["apply"][0])
    if gorilla is None:
        return None
    if (pattern := getattr(gorilla, "_ORIGINAL_NAME", None)) is None:
        report_missing_name("MLflow", "_ORIGINAL_NAME", PRIVATE_NAMES["_ORIGINAL_NAME"])
        return None
    stored = str(pattern % (name,))
    return stored if stored in vars(owner) else None


def read_on(integration: str | None) -> tuple[Asked, bool]:
    """Return what MLflow's autologging of a library is on with, empty if it is off; and whether by its own call."""
    own, general = read_asked(integration), read_asked(GENERAL)
    asked = general if own is None else own
    if asked is None or asked.get("disable") or (own is None and leaves_out(asked, integration)):
        return {}, False
    return asked, own is not None and not own.get(GLOBALLY)


def mark_globally_configured(integration: str | None) -> None:
    """Let ``mlflow.autolog()`` apply again to a library that we have turned off by its own autolog."""
    if isinstance(asked := read_asked(integration), dict):
        asked[GLOBALLY] = True


def leaves_out(asked: Asked, integration: str | None) -> bool:
    """Return whether a call of ``mlflow.autolog()`` excludes this library."""
    return integration in (asked.get("exclude_flavors") or ())


def is_late(asked: Asked) -> bool:
    """Return whether a call is what ``mlflow.autolog()`` has put off until now, the library being imported."""
    general = read_asked(GENERAL)
    return general is not None and all(general[name] == value for name, value in asked.items() if name in general)


def _look_up(name: str) -> Any:
    module, attribute = NAMES[name]
    return getattr(sys.modules.get(module) or importlib.import_module(module), attribute, None)


def _wrap_revert_patches(revert: Callable[..., object]) -> Callable[..., object]:
    def revert_patches(autologging_integration: str) -> object:
        asked = read_asked(autologging_integration)
        if asked is None or getattr(_by_us, "on", False):
            return revert(autologging_integration)
        if autologging_integration == GENERAL:
            result = revert(autologging_integration)
            for follower in tuple(_followers):
                with guard("following mlflow.autolog()"):
                    follower.on_general_autolog(asked)
            return result
        with ExitStack() as around:
            for follower in _followers:
                if follower.integration == autologging_integration:
                    around.enter_context(_guarded(follower.on_own_autolog(asked)))
            return revert(autologging_integration)

    return revert_patches


@contextmanager
def _guarded(hearing: AbstractContextManager[None]) -> Iterator[None]:
    with ExitStack() as around:
        with guard("following MLflow's autolog"):
            around.enter_context(hearing)
        yield
        with guard("following MLflow's autolog"):
            around.close()


def _wrap_apply(apply: Callable[..., object]) -> Callable[..., object]:
    def applied(patch: Any) -> object:
        result = apply(patch)
        with guard("following MLflow's patches"):
            for follower in _followers:
                follower.cover(patch.destination, patch.name)
        return result

    return applied


def warn_not_followed(name: str) -> None:
    warn_once(
        "mlspan: this version of MLflow does not let mlspan follow its autolog: call mlspan's autolog of %s last, as a "
        "later call of MLflow's own takes its spans away",
        name,
        place=name,
    )
