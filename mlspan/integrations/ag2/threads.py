"""AG2 0.x runs much in threads of its own: what surrounds the caller goes along."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from opentelemetry import context as otel

from ...tracing.context import _within as within
from ...tracing.context import active_run_id, attached, scope
from .._patch import Undo


def _carried(fn: Callable[..., Any]) -> Callable[..., Any]:
    """*fn*, with what surrounds us here: unlike ``wrap``, without AG2's own context variables, which it sets itself."""
    context, around, run_id = otel.get_current(), scope(), active_run_id()
    if run_id is not None:
        around = replace(around, run_id=run_id)

    @functools.wraps(fn)
    def carried(*args: Any, **kwargs: Any) -> Any:
        with attached(context), within(around):
            return fn(*args, **kwargs)

    return carried


class _Thread(threading.Thread):
    def __init__(self, group: None = None, target: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        super().__init__(group, target and _carried(target), **kwargs)


def _partial(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return functools.partial(_carried(fn), *args, **kwargs)


class _With:
    """A module as AG2 sees it, with one name that stands for something else."""

    def __init__(self, own: Any, name: str, value: Any) -> None:
        self._own = own
        setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _carry(module: str, used: str, name: str, value: Any) -> Undo:
    """Have *module*, which uses the module *used*, find *value* there under *name*."""
    user: Any = importlib.import_module(module)
    own = getattr(user, used)
    stand_in = _With(own, name, value)

    def undo() -> None:
        if getattr(user, used) is stand_in:
            setattr(user, used, own)

    setattr(user, used, stand_in)
    return undo


_AGENT: Final = "autogen.agentchat.conversable_agent"
CARRIES: Final = [  # each with the name of what it patches
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
        ),  # run_swarm, which later versions have not
    )
]
