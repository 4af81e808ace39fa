"""Lightning: the processes that its launcher starts by running the program again get the context of the training.

It is in a variable of their environment, and is read when such a process turns the integrations on.
"""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from typing import Any, Final

from ..._guard import guard
from ...hooks.autolog_settings import AutologSettings
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ._submit import LOST_TASKS
from ._task import capture_task_context, restored

_VARIABLE: Final = "MLSPAN_TASK_CONTEXT"
_LAUNCHER: Final = "strategies.launchers.subprocess_script:_SubprocessScriptLauncher._call_children_scripts"

_around_process = ExitStack()  # what surrounds all that this process does; nothing leaves it


class _LauncherHook(Hook):
    """A hook that also takes over what a launcher has left for this process."""

    def apply_settings(self, settings: AutologSettings | None) -> None:
        super().apply_settings(settings)
        if self.is_wanted and (text := os.environ.pop(_VARIABLE, None)) is not None:
            with guard("reading what surrounds this process"):
                _around_process.enter_context(restored(text))


def _wrap_launch(fn: Any, enabled: list[bool]) -> object:
    """Wrap the method that starts the processes, each with a copy of this one's environment."""

    @functools.wraps(fn)
    def launch(*args: object, **kwargs: object) -> object:
        text = capture_task_context(near=True) if enabled else None
        if text is None:
            return fn(*args, **kwargs)
        os.environ[_VARIABLE] = text
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
