"""Dask: a graph is sent with an annotation that says what surrounds its sender; a plugin on each worker reads it."""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final

from ..._guard import guard, tell_once
from .._carry import capture, restored
from .._hook import Hook, Undo, all_there, replace

_NAME: Final = "mlspan"  # of the annotation and of the plugin
_carried: ContextVar[str | None] = ContextVar("mlspan_dask_task", default=None)


class Plugin:
    """On a worker: puts around each task what its annotation says. Stays when a client goes; it costs nothing then."""

    name, idempotent = _NAME, True

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
            _carried.set((getattr(task, "annotations", None) or {}).get(_NAME))
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


def _sending(fn: Any) -> Any:
    @functools.wraps(fn)
    def send(*args: Any, **kwargs: Any) -> Any:
        import dask

        with ExitStack() as around:
            if (carried := capture()) is not None:
                around.enter_context(dask.annotate(**{_NAME: carried}))
            return fn(*args, **kwargs)

    return send


def _starting(fn: Any) -> Any:
    @functools.wraps(fn)
    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await fn(self, *args, **kwargs)
        try:
            await _register(self)
        except Exception as error:  # noqa: BLE001  # workers that lack mlspan: they run their tasks all the same
            tell_once("mlspan: the workers of Dask are not traced: %s", error)
        return result

    return start


def _register(client: Any) -> Any:
    from distributed.diagnostics.plugin import WorkerPlugin

    WorkerPlugin.register(Plugin)
    return client._register_worker_plugin(Plugin(), name=_NAME, idempotent=True)


def _install(_: Hook) -> Undo:
    from distributed.client import Client, _global_clients

    undo = all_there(
        (target, functools.partial(replace, target, make))
        for target, make in {
            "distributed.client:Client._graph_to_futures": _sending,
            "distributed.client:Client._start": _starting,
        }.items()
    )
    for client in weakref.WeakSet(_global_clients.values()):
        if isinstance(client, Client) and client.status == "running" and not client.asynchronous:
            client.sync(_register, client)
    return undo


HOOK: Final = Hook("distributed>=2025.1", "distributed", _install)
autolog = HOOK.autolog
