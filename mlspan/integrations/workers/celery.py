"""Celery: the message of a task carries the context of its sender in a header, by means of Celery's signals.

The worker needs mlspan too: its application calls ``autolog``, or it is started by ``mlspan run -m celery ... worker``.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from typing import Any, Final

from ..._guard import guard
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo, resolve_target
from ._submit import LOST_TASKS
from ._task import capture_task_context, restored

_CONTEXT_HEADER: Final = "mlspan"
_contexts_by_task: dict[str, ExitStack] = {}  # by task id


def _add_context_header(headers: object = None, **_: object) -> None:
    """Add the current context to the headers of a message; a receiver of ``before_task_publish``."""
    with guard("sending a task"):
        if isinstance(headers, dict) and (task_context := capture_task_context()) is not None:
            headers[_CONTEXT_HEADER] = task_context


def _enter_task_context(task_id: Any = None, task: object = None, **_: object) -> None:
    """Restore the context of a task that starts; a receiver of ``task_prerun``."""
    with guard("beginning a task"):
        request = getattr(task, "request", None)
        task_context = getattr(request, _CONTEXT_HEADER, None) or (getattr(request, "headers", None) or {}).get(
            _CONTEXT_HEADER
        )
        if task_context:
            stack = _contexts_by_task[task_id] = ExitStack()
            stack.enter_context(restored(task_context))


def _exit_task_context(task_id: Any = None, **_: object) -> None:
    """Leave the context of a task that has ended; a receiver of ``task_postrun``."""
    with guard("ending a task"):
        if (stack := _contexts_by_task.pop(task_id, None)) is not None:
            stack.close()


def _install(_: Hook) -> Undo:
    receivers = {
        "before_task_publish": _add_context_header,
        "task_prerun": _enter_task_context,
        "task_postrun": _exit_task_context,
    }
    return apply_patches(
        Patch(f"celery.signals:{name}", functools.partial(_connect_receiver, receiver), LOST_TASKS)
        for name, receiver in receivers.items()
    )


def _connect_receiver(receiver: object, target: str) -> Undo:
    signal: Any = getattr(*resolve_target(target))
    signal.connect(receiver, weak=False)
    return remember_undo(functools.partial(signal.disconnect, receiver))


HOOK: Final = Hook("celery>=5.4,<6", "celery", _install)
autolog = HOOK.autolog
