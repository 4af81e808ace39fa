"""The plugin that a Dask client sends to each worker. It runs each task in the context that its annotation carries."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any, Final

from distributed.diagnostics.plugin import WorkerPlugin

from ..._guard import guard
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ._submit import LOST_TASKS
from ._task import restored

ANNOTATION: Final = "mlspan"  # the name of the annotation and of the plugin
_task_context: ContextVar[str | None] = ContextVar("mlspan_dask_task", default=None)


class Plugin(WorkerPlugin):  # type: ignore[misc]  # Any, where distributed is not installed
    """A worker plugin that restores the context of each task.

    It stays on the worker after the client has gone, and then does nothing.
    """

    name, idempotent = ANNOTATION, True

    def setup(self, worker: object) -> None:  # noqa: ARG002  # distributed's signature
        """Patch the worker's module, once for all workers of a process. The worker calls this."""
        global _undo
        if _undo is None:
            _undo = apply_patches(
                Patch(target, functools.partial(replace_function, make=make), LOST_TASKS)
                for target, make in _WORKER_PATCHES.items()
            )

    def teardown(self, worker: object) -> None: ...


_undo: Undo | None = None


def _wrap_execute(fn: Any) -> object:
    """Wrap ``Worker.execute`` to set the task's context; it runs each task in a copy of its own context variables."""

    @functools.wraps(fn)
    async def execute_task(self: Any, key: Any, **kwargs: Any) -> object:
        with guard("beginning a task"):
            task = self.state.tasks.get(key)
            _task_context.set((getattr(task, "annotations", None) or {}).get(ANNOTATION))
        return await fn(self, key, **kwargs)

    return execute_task


def _wrap_run_task(fn: Any) -> object:
    @functools.wraps(fn)
    def run_task(*args: Any, **kwargs: Any) -> object:
        with restored(_task_context.get()):
            return fn(*args, **kwargs)

    return run_task


def _wrap_run_task_async(fn: Any) -> Any:
    @functools.wraps(fn)
    async def run_task(*args: object, **kwargs: object) -> object:
        with restored(_task_context.get(), wait=False):
            return await fn(*args, **kwargs)

    return run_task


_WORKER_PATCHES: Final = {
    "distributed.worker:Worker.execute": _wrap_execute,
    "distributed.worker:_run_task": _wrap_run_task,
    "distributed.worker:_run_task_async": _wrap_run_task_async,
}
