"""Celery: the message of a task carries the context of its sender in a header, by means of Celery's signals.

The worker needs mlspan too: its application calls ``autolog``, or it is started by ``mlspan run -m celery ... worker``.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.patching import Undo
from ._task import capture, restored

_HEADER: Final = "mlspan"
_running: dict[str, ExitStack] = {}  # by task id


def _publish(headers: Any = None, **_: Any) -> None:
    """Add the current context to the headers of a message; a receiver of ``before_task_publish``."""
    with guard("sending a task"):
        if isinstance(headers, dict) and (carried := capture()) is not None:
            headers[_HEADER] = carried


def _begin(task_id: Any = None, task: Any = None, **_: Any) -> None:
    """Restore the context of a task that starts; a receiver of ``task_prerun``."""
    with guard("beginning a task"):
        request = getattr(task, "request", None)
        carried = getattr(request, _HEADER, None) or (getattr(request, "headers", None) or {}).get(_HEADER)
        if carried:
            stack = _running[task_id] = ExitStack()
            stack.enter_context(restored(carried))


def _end(task_id: Any = None, **_: Any) -> None:
    """Leave the context of a task that has ended; a receiver of ``task_postrun``."""
    with guard("ending a task"):
        if (stack := _running.pop(task_id, None)) is not None:
            stack.close()


def _install(_: Hook) -> Undo:
    from celery import signals

    receivers = ((signals.before_task_publish, _publish), (signals.task_prerun, _begin), (signals.task_postrun, _end))
    for signal, receiver in receivers:
        signal.connect(receiver, weak=False)

    def disconnect_receivers() -> None:
        for signal, receiver in receivers:
            signal.disconnect(receiver)

    return disconnect_receivers


HOOK: Final = Hook("celery>=5.4,<6", "celery", _install)
autolog = HOOK.autolog
