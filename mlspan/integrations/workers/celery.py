"""Celery: a task's message carries what surrounds its sender, in a header, by Celery's own signals.

The worker needs the signals, too: of an application that calls ``autolog``, or by ``mlspan run -m celery ... worker``.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

from ..._guard import guard
from .._carry import capture, restored
from .._hook import Hook
from .._patch import Undo

_HEADER: Final = "mlspan"
_running: dict[str, ExitStack] = {}  # by task id


def _publish(headers: Any = None, **_: Any) -> None:
    with guard("sending a task"):
        if isinstance(headers, dict) and (carried := capture()) is not None:
            headers[_HEADER] = carried


def _begin(task_id: Any = None, task: Any = None, **_: Any) -> None:
    with guard("beginning a task"):
        request = getattr(task, "request", None)
        carried = getattr(request, _HEADER, None) or (getattr(request, "headers", None) or {}).get(_HEADER)
        if carried:
            stack = _running[task_id] = ExitStack()
            stack.enter_context(restored(carried))


def _end(task_id: Any = None, **_: Any) -> None:
    with guard("ending a task"):
        if (stack := _running.pop(task_id, None)) is not None:
            stack.close()


def _install(_: Hook) -> Undo:
    from celery import signals

    heard = ((signals.before_task_publish, _publish), (signals.task_prerun, _begin), (signals.task_postrun, _end))
    for signal, listener in heard:
        signal.connect(listener, weak=False)

    def undo() -> None:
        for signal, listener in heard:
            signal.disconnect(listener)

    return undo


HOOK: Final = Hook("celery>=5.4,<6", "celery", _install)
autolog = HOOK.autolog
