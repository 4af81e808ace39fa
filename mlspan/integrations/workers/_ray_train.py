"""Ray Train: the function that each worker calls carries the context of whoever has called ``fit``.

The workers are started by a controller in a process of its own, and call the function in a thread of theirs, so the
context of a task does not reach it. Of several workers that train one model the first one logs and traces it.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ._submit import LOST_TASKS
from ._task import capture_task_context

MODULE: Final = "ray.train.v2.api.data_parallel_trainer"  # not yet there when the import of ray.train ends
_FUNCTION: Final = "train_loop_per_worker"


def carry_context(function: Any, text: str) -> object:
    """Return *function* such that each call runs in the context *text*.

    Ray pickles the wrapper by value, so a worker without mlspan can load it.
    """

    def call_in_context(*args: object, **kwargs: object) -> object:
        try:
            from mlspan.integrations.workers._task import restored
        except ImportError:
            return function(*args, **kwargs)
        with restored(text):
            return function(*args, **kwargs)

    return functools.update_wrapper(call_in_context, function)


def _wrap_fit(fn: Any, enabled: list[bool]) -> object:
    @functools.wraps(fn)
    def fit(self: Any, *args: Any, **kwargs: Any) -> object:
        function, text = getattr(self, _FUNCTION, None), capture_task_context() if enabled else None
        if not callable(function) or text is None:
            return fn(self, *args, **kwargs)
        setattr(self, _FUNCTION, carry_context(function, text))
        try:
            return fn(self, *args, **kwargs)
        finally:
            with guard("giving a trainer its function back"):
                setattr(self, _FUNCTION, function)

    return fit


def install(_: Hook) -> Undo:
    target = f"{MODULE}:DataParallelTrainer.fit"
    return apply_patches([Patch(target, functools.partial(replace_method, make=_wrap_fit), LOST_TASKS)])
