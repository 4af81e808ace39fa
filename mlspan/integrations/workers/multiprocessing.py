"""Processes of the standard library: ``multiprocessing``, its pools, and the process pools of ``concurrent.futures``.

The task's function is replaced by a callable that holds the function and the context, and is pickled or forked with
both. Tasks of ``multiprocessing.pool.ThreadPool`` get the context in the same way.
"""

from __future__ import annotations

import functools
from typing import Any, Final

from ..._guard import guard
from ._submit import StdlibHook, make_install, wrap_submit
from ._task import capture_task_context, restored

_STDLIB_REQUIREMENT: Final = "python>=3.10"


class _Run:
    """The replacement of a process's ``run`` method while the process is being started."""

    def __init__(self, process: Any, task_context: str) -> None:
        self.process, self.task_context = process, task_context

    def __call__(self) -> None:
        with restored(self.task_context):
            type(self.process).run(self.process)

    def __reduce__(self) -> tuple[object, ...]:
        return _Run, (self.process, self.task_context)


def _wrap_start(fn: Any) -> object:
    @functools.wraps(fn)
    def start_process(self: Any, *args: Any, **kwargs: Any) -> object:
        task_context = None if "run" in vars(self) else capture_task_context(near=True)
        if task_context is None:
            return fn(self, *args, **kwargs)
        self.run = _Run(self, task_context)
        try:
            return fn(self, *args, **kwargs)
        finally:
            with guard("starting a process"):
                vars(self).pop("run", None)

    return start_process


_POOL_METHODS: Final = [
    f"multiprocessing.pool:Pool.{name}" for name in ("apply_async", "_map_async", "imap", "imap_unordered")
]

HOOK: Final = StdlibHook(
    _STDLIB_REQUIREMENT,
    "multiprocessing.process",
    make_install({"multiprocessing.process:BaseProcess.start": _wrap_start}),
    also=(
        StdlibHook(
            _STDLIB_REQUIREMENT, "multiprocessing.pool", make_install(dict.fromkeys(_POOL_METHODS, wrap_submit(1)))
        ),
        StdlibHook(
            _STDLIB_REQUIREMENT,
            "concurrent.futures.process",
            make_install({"concurrent.futures.process:ProcessPoolExecutor.submit": wrap_submit(1)}),
        ),
    ),
)
autolog = HOOK.autolog
