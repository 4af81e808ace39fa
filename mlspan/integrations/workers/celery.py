"""Celery: the message of a task carries the context of its sender in a header, by means of Celery's signals.

The worker needs mlspan too: its application calls ``autolog``, or it is started by ``mlspan run -m celery ... worker``.
With ``autolog(task_spans=True)`` in the worker each attempt of a task is a span.
"""

from __future__ import annotations

import functools
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from ..._guard import guard
from ..._shape import get_field, get_nested
from ...hooks.hook import Hook
from ...hooks.patching import Patch, Undo, apply_patches, remember_undo, resolve_target
from ...tracing.manual import span
from ._submit import LOST_TASKS
from ._task import capture_task_context, restored

_CONTEXT_HEADER: Final = "mlspan"


@dataclass
class _RunningTask:
    """One attempt of a task in this process."""

    context: ExitStack = field(default_factory=ExitStack)  # the sender's, until the attempt is over
    span: span | None = None
    error: BaseException | None = None  # for which it has failed

    def end(self, state: object, value: object) -> None:
        """End the span with the state that Celery gives, and leave the sender's context."""
        with self.context:
            if self.span is not None:
                self.span.record.extra["celery.state"] = str(state)
                if state == "SUCCESS":
                    self.span.output = value
                error = self.error
                self.span.__exit__(None if error is None else type(error), error, get_field(error, "__traceback__"))


# By task id and thread: one run may be inside another (an eager task), or beside it (a message delivered twice).
_running_tasks: dict[tuple[object, int], list[_RunningTask]] = {}


def _add_context_header(headers: object = None, **_: object) -> None:
    """Add the current context to the headers of a message; a receiver of ``before_task_publish``."""
    with guard("sending a task"):
        if isinstance(headers, dict) and (task_context := capture_task_context()) is not None:
            headers[_CONTEXT_HEADER] = task_context


def _enter_task(task_id: object = None, task: object = None, **_: object) -> None:
    """Restore the context of a task that starts, and start its span; a receiver of ``task_prerun``."""
    with guard("beginning a task"):
        running = _RunningTask()
        _running_tasks.setdefault((task_id, threading.get_ident()), []).append(running)  # each run, as each is popped
        request = getattr(task, "request", None)
        task_context = getattr(request, _CONTEXT_HEADER, None) or (getattr(request, "headers", None) or {}).get(
            _CONTEXT_HEADER
        )
        has_span = bool(HOOK.settings.options.get("task_spans"))
        if task_context or has_span:
            running.context.enter_context(restored(task_context))
            if has_span:
                running.span = _start_span(task, request, task_id)


def _start_span(task: object, request: object, task_id: object) -> span:
    """Start the span of one attempt."""
    name = get_nested(task, "name", str) or "task"
    attributes = {
        "celery.task_name": name,
        "celery.retries": get_nested(request, "retries", int) or 0,
        "messaging.message.id": str(task_id),
    }
    given = {"args": get_field(request, "args"), "kwargs": get_field(request, "kwargs")}
    return span(name, "task", input=given, attributes=attributes).__enter__()


def _note_failure(task_id: object = None, exception: BaseException | None = None, **_: object) -> None:
    """Note why an attempt has failed for good; a receiver of ``task_failure``."""
    with guard("reading a task's failure"):
        if running := _running_tasks.get((task_id, threading.get_ident())):
            running[-1].error = exception


def _exit_task(task_id: object = None, state: object = None, retval: object = None, **_: object) -> None:
    """End the span of a task and leave its context; a receiver of ``task_postrun``."""
    with guard("ending a task"):
        key = task_id, threading.get_ident()
        running = _running_tasks.pop(key, [])
        if len(running) > 1:
            _running_tasks[key] = running[:-1]
        if running:
            running[-1].end(state, retval)


def _install(_: Hook) -> Undo:
    receivers = {
        "before_task_publish": _add_context_header,
        "task_prerun": _enter_task,
        "task_failure": _note_failure,
        "task_postrun": _exit_task,
    }
    return apply_patches(
        Patch(f"celery.signals:{name}", functools.partial(_connect_receiver, receiver), LOST_TASKS)
        for name, receiver in receivers.items()
    )


def _connect_receiver(receiver: object, target: str) -> Undo:
    signal: Any = getattr(*resolve_target(target))
    signal.connect(receiver, weak=False)
    return remember_undo(functools.partial(signal.disconnect, receiver))


HOOK: Final = Hook("celery>=5.4,<6", "celery", _install, options=frozenset({"task_spans"}))
autolog = HOOK.autolog
