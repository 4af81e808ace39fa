"""DSPy: programs, modules, adapters, calls to language models, tools, evaluations and optimisers, by its callbacks.

The callbacks of the program's own settings stay as they are: ours is added where DSPy asks for them. With the hook of
a client on, such as LiteLLM's, the request that DSPy has it make is the same call.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Final

from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, observe_method, replace_method
from .callbacks import CallbackHandler, bind_context, note_result

__all__ = ["HOOK", "autolog"]

_SETTINGS: Final = "dspy.dsp.utils.settings:Settings.get"
_EXECUTOR: Final = "dspy.utils.parallelizer:ParallelExecutor.execute"
_RESULTS: Final = "dspy.clients.execution:finalize"


def _add_handler(hook: Hook, target: str) -> Undo:
    """Add our handler to the callbacks, where DSPy asks its settings for them."""
    base: Any = importlib.import_module("dspy.utils.callback").BaseCallback
    handler = type("MlspanCallback", (CallbackHandler, base), {"hook": hook})()

    def wrap_get(original: Callable[..., Any], enabled: list[bool]) -> object:
        @functools.wraps(original)
        def get_with_handler(settings: Any, key: Any, default: Any = None) -> object:
            found = original(settings, key, default)
            return [*(found or ()), handler] if key == "callbacks" and enabled else found

        return get_with_handler

    return replace_method(target, wrap_get)


def _carry_context(target: str) -> Undo:
    """Have DSPy's threads run inside the span of whoever has asked for them."""

    def wrap_execute(original: Callable[..., Any], enabled: list[bool]) -> object:
        @functools.wraps(original)
        def execute_in_context(executor: object, function: Any, data: Any) -> object:
            return original(executor, bind_context(function) if enabled else function, data)

        return execute_in_context

    return replace_method(target, wrap_execute)


def _install(hook: Hook) -> Undo:
    watch_results = functools.partial(observe_method, callback=note_result)
    return apply_patches(
        [
            Patch(_SETTINGS, functools.partial(_add_handler, hook), "all calls of DSPy", is_required=True),
            Patch(_RESULTS, watch_results, "tokens, ids and models of answers, unless the client's hook is on"),
            Patch(_EXECUTOR, _carry_context, "the caller's span around what runs in threads"),
        ]
    )


HOOK = Hook("dspy>=3.4,<4", "dspy", _install)
autolog = HOOK.autolog
