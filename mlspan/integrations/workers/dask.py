"""Dask: a graph is sent with an annotation that holds the context of its sender; a plugin on each worker reads it."""

from __future__ import annotations

import functools
import weakref
from contextlib import ExitStack
from typing import Any, Final

from ..._guard import warn_once
from ..._private_names import report_missing_name
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, replace_function
from ._submit import LOST_TASKS
from ._task import capture_task_context

# Private names, each with what is lost without it; a warning says so.
PRIVATE_NAMES: Final[dict[str, str]] = {
    "_register_worker_plugin": "what a task does on a worker does not belong to its caller's trace",
    "_global_clients": "clients that were there before autolog do not trace their workers",
}

_ANNOTATION: Final = "mlspan"  # the name of the annotation


def _wrap_graph_to_futures(fn: Any) -> object:
    @functools.wraps(fn)
    def send_graph(*args: Any, **kwargs: Any) -> object:
        import dask

        with ExitStack() as around:
            if (task_context := capture_task_context()) is not None:
                around.enter_context(dask.annotate(**{_ANNOTATION: task_context}))
            return fn(*args, **kwargs)

    return send_graph


def _wrap_client_start(fn: Any) -> object:
    @functools.wraps(fn)
    async def start_client(self: Any, *args: object, **kwargs: object) -> object:
        result = await fn(self, *args, **kwargs)
        try:
            await _register_plugin(self)
        except Exception as error:  # noqa: BLE001  # a worker without mlspan still runs its tasks
            warn_once("mlspan: the workers of Dask are not traced: %s", error)
        return result

    return start_client


def _register_plugin(client: object) -> Any:
    """Send the plugin to the workers of *client*.

    ``Client._register_worker_plugin`` is private; without it, a warning says that the workers are not traced.
    """
    from ._dask_worker import ANNOTATION, Plugin

    if not hasattr(client, "_register_worker_plugin"):
        report_missing_name("Dask", "_register_worker_plugin", PRIVATE_NAMES["_register_worker_plugin"])
        return _do_nothing()
    return client._register_worker_plugin(Plugin(), name=ANNOTATION, idempotent=True)


async def _do_nothing() -> None: ...


def _install(_: Hook) -> Undo:
    from distributed import client as module

    Client = module.Client  # noqa: N806  # a class
    clients = getattr(module, "_global_clients", None)
    if clients is None:
        report_missing_name("Dask", "_global_clients", PRIVATE_NAMES["_global_clients"])
    undo = apply_patches(
        Patch(target, functools.partial(replace_function, make=make), LOST_TASKS)
        for target, make in {
            "distributed.client:Client._graph_to_futures": _wrap_graph_to_futures,
            "distributed.client:Client._start": _wrap_client_start,
        }.items()
    )
    for client in weakref.WeakSet((clients or {}).values()):
        if isinstance(client, Client) and client.status == "running" and not client.asynchronous:
            client.sync(_register_plugin, client)
    return undo


HOOK: Final = Hook("distributed>=2025.1,<2027", "distributed", _install)
autolog = HOOK.autolog
