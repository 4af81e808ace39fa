"""The threads of AG2 0.x: the caller's context is carried into each thread that AG2 starts."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from opentelemetry import context as otel

from ...hooks.patching import Undo
from ...tracing.mlflow_state.runs import active_run_id
from ...tracing.operations.call_context import _within as within
from ...tracing.operations.call_context import attached, scope


def _carried(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap *fn* to run in the current span and scope.

    Other context variables are left alone, unlike with ``tracing.wrap``: AG2 sets its own in each thread.
    """
    context, around, run_id = otel.get_current(), scope(), active_run_id()
    if run_id is not None:
        around = replace(around, run_id=run_id)

    @functools.wraps(fn)
    def call_in_context(*args: Any, **kwargs: Any) -> Any:
        with attached(context), within(around):
            return fn(*args, **kwargs)

    return call_in_context


class _Thread(threading.Thread):
    def __init__(self, group: None = None, target: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        super().__init__(group, target and _carried(target), **kwargs)


def _partial(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return functools.partial(_carried(fn), *args, **kwargs)


class _With:
    """A proxy of a module in which one name has another value."""

    def __init__(self, own: Any, name: str, value: Any) -> None:
        self._own = own
        setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _carry(module: str, used: str, name: str, value: Any) -> Undo:
    """Make *module* find *value* as *name* of the module that it has imported as *used*; return the restore_module.

    Only *module* sees the value; the imported module itself is unchanged.
    """
    importer: Any = importlib.import_module(module)
    own = getattr(importer, used)
    stand_in = _With(own, name, value)

    def restore_module() -> None:
        if getattr(importer, used) is stand_in:
            setattr(importer, used, own)

    setattr(importer, used, stand_in)
    return restore_module


_AGENT: Final = "autogen.agentchat.conversable_agent"
CARRIES: Final = [  # (description of the target, function that patches it)
    (f"the {name} of {module}", functools.partial(_carry, module, used, name, value))
    for module, used, name, value in (
        (_AGENT, "threading", "Thread", _Thread),  # run, run_iter, and async tools of sync agents
        (_AGENT, "functools", "partial", _partial),  # an async agent's call to its model
        ("autogen.agentchat.group.multi_agent_chat", "threading", "Thread", _Thread),  # run_group_chat
        (
            "autogen.agentchat.contrib.swarm_agent",
            "threading",
            "Thread",
            _Thread,
        ),  # run_swarm, which later versions lack
    )
]
