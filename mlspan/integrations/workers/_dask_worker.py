"""What a client sends to each of Dask's workers: a plugin that puts around a task what its annotation says."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import Any, Final

from distributed.diagnostics.plugin import WorkerPlugin

from ..._guard import guard
from .._carry import restored
from .._patch import Undo, all_there, replace

NAME: Final = "mlspan"  # of the annotation and of the plugin
_carried: ContextVar[str | None] = ContextVar("mlspan_dask_task", default=None)


class Plugin(WorkerPlugin):  # type: ignore[misc]  # Any, where distributed is not installed
    """On a worker: puts around each task what its annotation says. Stays when a client goes; it costs nothing then."""

    name, idempotent = NAME, True

    def setup(self, worker: Any) -> None:  # noqa: ARG002  # distributed's signature
        """Called by the worker. Many workers of one process share what is patched."""
        global _undo
        if _undo is None:
            _undo = all_there(
                (target, functools.partial(replace, target, make)) for target, make in _ON_WORKERS.items()
            )

    def teardown(self, worker: Any) -> None: ...


_undo: Undo | None = None


def _executing(fn: Any) -> Any:
    """Around ``Worker.execute``, which runs a task in a copy of its own context."""

    @functools.wraps(fn)
    async def execute(self: Any, key: Any, **kwargs: Any) -> Any:
        with guard("beginning a task"):
            task = self.state.tasks.get(key)
            _carried.set((getattr(task, "annotations", None) or {}).get(NAME))
        return await fn(self, key, **kwargs)

    return execute


def _running(fn: Any) -> Any:
    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        with restored(_carried.get()):
            return fn(*args, **kwargs)

    return run


def _running_async(fn: Any) -> Any:
    @functools.wraps(fn)
    async def run(*args: Any, **kwargs: Any) -> Any:
        with restored(_carried.get(), wait=False):
            return await fn(*args, **kwargs)

    return run


_ON_WORKERS: Final = {
    "distributed.worker:Worker.execute": _executing,
    "distributed.worker:_run_task": _running,
    "distributed.worker:_run_task_async": _running_async,
}
