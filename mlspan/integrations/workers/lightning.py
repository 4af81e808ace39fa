"""Lightning: the processes that its launcher starts by running the program again get the context of the training.

It is in a variable of their environment, and is read when such a process turns the integrations on.
"""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from typing import Any, Final

from ..._guard import guard, warn_once
from ...hooks.autolog_settings import AutologSettings
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ._submit import LOST_TASKS
from ._task import capture_task_context, restored

_VARIABLE: Final = "MLSPAN_TASK_CONTEXT"
_RANK: Final = "LOCAL_RANK"  # the launcher sets it for the processes that it starts
_MAX_BYTES: Final = 32_000  # Windows takes 32,767 characters, and Linux 128 KiB
_LAUNCHER: Final = "strategies.launchers.subprocess_script:_SubprocessScriptLauncher._call_children_scripts"

_around_process = ExitStack()  # what surrounds all that this process does; nothing leaves it


class _LauncherHook(Hook):
    """A hook that also takes over what a launcher has left for this process."""

    def apply_settings(self, settings: AutologSettings | None) -> None:
        super().apply_settings(settings)
        if self.is_wanted and (value := os.environ.pop(_VARIABLE, None)) is not None:
            with guard("reading what surrounds this process"):
                if (text := _read_variable(value)) is not None:
                    _around_process.enter_context(restored(text))


def _read_variable(value: str) -> str | None:
    """Return the context in the variable; None in a process that the launcher has not started itself."""
    sender, _, text = value.partition(" ")
    return text if sender == str(os.getppid()) and _RANK in os.environ else None


def _set_variable() -> None:
    """Put the caller's context into the environment, if it fits."""
    with guard("preparing the processes of a training"):
        if (text := capture_task_context(near=True)) is None:
            return
        if len(text.encode()) > _MAX_BYTES:
            warn_once("mlspan: the other processes of a training do not join it, as what surrounds it is too large")
            return
        os.environ[_VARIABLE] = f"{os.getpid()} {text}"


def _wrap_launch(fn: Any, enabled: list[bool]) -> object:
    """Wrap the method that starts the processes, each with a copy of this one's environment."""

    @functools.wraps(fn)
    def launch(*args: object, **kwargs: object) -> object:
        if enabled:
            _set_variable()
        try:
            return fn(*args, **kwargs)
        finally:
            os.environ.pop(_VARIABLE, None)

    return launch


def _make_install(*packages: str) -> Any:
    def install(_: Hook) -> Undo:
        return apply_patches(
            Patch(f"{package}.{_LAUNCHER}", functools.partial(replace_method, make=_wrap_launch), LOST_TASKS)
            for package in packages
        )

    return install


HOOK: Final = _LauncherHook(
    "lightning>=2.4,<3",
    "lightning",
    _make_install("lightning.pytorch", "lightning.fabric"),
    also=(Hook("pytorch-lightning>=2.4,<3", "pytorch_lightning", _make_install("pytorch_lightning")),),
)
autolog = HOOK.autolog
