"""The threads of AG2 0.x: the caller's context is carried into each thread that AG2 starts."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from opentelemetry import context as otel

from ...hooks.patching import Patch, Undo, resolve_target, set_attribute
from ...tracing.mlflow_state.runs import get_active_run_id
from ...tracing.operations.call_context import get_call_scope, use_context, use_scope


def _bind_context(fn: Callable[..., object]) -> Callable[..., object]:
    """Wrap *fn* to run in the current span and scope.

    Other context variables are left alone, unlike with ``tracing.wrap``: AG2 sets its own in each thread.
    """
    context, around, run_id = otel.get_current(), get_call_scope(), get_active_run_id()
    if run_id is not None:
        around = replace(around, run_id=run_id)

    @functools.wraps(fn)
    def call_in_context(*args: object, **kwargs: object) -> object:
        with use_context(context), use_scope(around):
            return fn(*args, **kwargs)

    return call_in_context


class _ContextThread(threading.Thread):
    def __init__(self, group: None = None, target: Callable[..., object] | None = None, **kwargs: Any) -> None:
        super().__init__(group, target and _bind_context(target), **kwargs)


def _bind_partial(fn: Callable[..., object], /, *args: object, **kwargs: object) -> object:
    return functools.partial(_bind_context(fn), *args, **kwargs)


class _ModuleProxy:
    """A proxy of a module in which one name has another value."""

    def __init__(self, own: object, name: str, value: object) -> None:
        self._own = own
        setattr(self, name, value)

    def __getattr__(self, name: str) -> object:
        return getattr(self._own, name)


def _substitute_name(name: str, value: object, target: str) -> Undo:
    """Make a module find *value* as *name* of the module that it has imported, and return what ends that.

    Only the module that *target* names sees the value; the imported module itself is unchanged.
    """
    importer, used = resolve_target(target)
    return set_attribute(importer, used, _ModuleProxy(getattr(importer, used), name, value))


_AGENT_MODULE: Final = "autogen.agentchat.conversable_agent"
CONTEXT_PATCHES: Final = [
    Patch(
        f"{module}:{used}",
        functools.partial(_substitute_name, name, value),
        "that what runs in a thread belongs to its caller",
        is_optional="contrib" in module,
    )
    for module, used, name, value in (
        (_AGENT_MODULE, "threading", "Thread", _ContextThread),  # run, run_iter, and async tools of sync agents
        (_AGENT_MODULE, "functools", "partial", _bind_partial),  # an async agent's call to its model
        ("autogen.agentchat.group.multi_agent_chat", "threading", "Thread", _ContextThread),  # run_group_chat
        (
            "autogen.agentchat.contrib.swarm_agent",
            "threading",
            "Thread",
            _ContextThread,
        ),  # run_swarm, which later versions lack
    )
]
