"""Ray Train: the function that each worker calls carries the context of whoever has called ``fit``.

The workers are started by a controller in a process of its own, and call the function in a thread of theirs, so the
context of a task does not reach it. Of several workers that train one model the first one logs and traces it.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_method
from ._submit import LOST_TASKS
from ._task import capture_task_context

MODULE: Final = "ray.train.v2.api.data_parallel_trainer"  # not yet there when the import of ray.train ends


def carry_context(function: Any, text: str) -> object:
    """Return *function* such that each call runs in the context *text*.

    Ray pickles the wrapper by value, so a worker without mlspan can load it. The wrapper gets none of the attributes
    of *function*, which need not be what can be pickled.
    """

    def call_in_context(*args: object, **kwargs: object) -> object:
        try:
            from mlspan.integrations.workers._task import restored
        except ImportError:
            return function(*args, **kwargs)
        with restored(text):
            return function(*args, **kwargs)

    return functools.update_wrapper(call_in_context, function, updated=())


def _wrap_get_function(fn: Any, enabled: list[bool]) -> object:
    """Wrap the method that makes the function which ``fit`` sends to the workers. The trainer stays as it is."""

    @functools.wraps(fn)
    def get_function(*args: Any, **kwargs: Any) -> object:
        function = fn(*args, **kwargs)
        text = capture_task_context() if enabled and callable(function) else None
        return function if text is None else carry_context(function, text)

    return get_function


def install(_: Hook) -> Undo:
    target = f"{MODULE}:DataParallelTrainer._get_train_func"
    return apply_patches([Patch(target, functools.partial(replace_method, make=_wrap_get_function), LOST_TASKS)])
