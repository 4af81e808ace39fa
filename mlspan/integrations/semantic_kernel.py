"""Semantic Kernel, which traces itself: its spans of agents, models and functions join mlspan's.

It writes what was asked and answered as log records, not onto its spans; with the hook of the model's client on, that
call has its content.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from ..hooks.hook import Hook
from ..hooks.joined_spans import join_tracers, turn_spans_on
from ..hooks.patching import Patch, Undo, apply_patches, install_when_imported

__all__ = ["HOOK", "autolog"]

_LOSS: Final = "spans of Semantic Kernel"
_DIAGNOSTICS: Final = "semantic_kernel.utils.telemetry"
_TRACERS: Final = (  # the modules that have a tracer, which are imported as they are needed
    "semantic_kernel.connectors.ai.chat_completion_client_base",
    "semantic_kernel.functions.kernel_function",
    f"{_DIAGNOSTICS}.agent_diagnostics.decorators",
    f"{_DIAGNOSTICS}.model_diagnostics.decorators",
)
_SETTINGS: Final = (  # those that have settings
    f"{_DIAGNOSTICS}.agent_diagnostics.decorators",
    f"{_DIAGNOSTICS}.model_diagnostics.decorators",
    f"{_DIAGNOSTICS}.model_diagnostics.function_tracer",
)


def _enable_diagnostics(target: str) -> Undo:
    module, _, name = target.partition(":")
    settings = getattr(importlib.import_module(module), name)
    return turn_spans_on(settings, "enable_otel_diagnostics", "enable_otel_diagnostics_sensitive")


def _list_patches(hook: Hook, module: str) -> Iterator[Patch]:
    if module in _TRACERS:
        yield from join_tracers(hook, [f"{module}:tracer"], _LOSS)
    if module in _SETTINGS:
        yield Patch(f"{module}:MODEL_DIAGNOSTICS_SETTINGS", _enable_diagnostics, _LOSS)


def _install_module(hook: Hook, module: str) -> Undo:
    return apply_patches(_list_patches(hook, module))


def _install(hook: Hook) -> Undo:
    with ExitStack() as undo:
        for module in dict.fromkeys(_TRACERS + _SETTINGS):
            undo.callback(install_when_imported(module, partial(_install_module, hook, module), loss=_LOSS))
        return undo.pop_all().close


HOOK = Hook("semantic-kernel>=1.40,<2", "semantic_kernel", _install)
autolog = HOOK.autolog
