"""Dask: a graph is sent with an annotation that holds the context of its sender; a plugin on each worker reads it."""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack
from typing import Any, Final

from ..._guard import tell_once
from ...hooks.hook import Hook
from ...hooks.patching import Undo, all_there, replace
from ._task import capture

_NAME: Final = "mlspan"  # the name of the annotation


def _sending(fn: Any) -> Any:
    @functools.wraps(fn)
    def send_graph(*args: Any, **kwargs: Any) -> Any:
        import dask

        with ExitStack() as around:
            if (carried := capture()) is not None:
                around.enter_context(dask.annotate(**{_NAME: carried}))
            return fn(*args, **kwargs)

    return send_graph


def _starting(fn: Any) -> Any:
    @functools.wraps(fn)
    async def start_client(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await fn(self, *args, **kwargs)
        try:
            await _register(self)
        except Exception as error:  # noqa: BLE001  # a worker without mlspan still runs its tasks
            tell_once("mlspan: the workers of Dask are not traced: %s", error)
        return result

    return start_client


def _register(client: Any) -> Any:
    """Send the plugin to the workers of *client*.

    ``Client._register_worker_plugin`` is private; without it, a warning says that the workers are not traced.
    """
    from ._dask_worker import NAME, Plugin

    return client._register_worker_plugin(Plugin(), name=NAME, idempotent=True)


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


HOOK: Final = Hook("distributed>=2025.1,<2027", "distributed", _install)
autolog = HOOK.autolog
