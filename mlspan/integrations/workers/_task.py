"""Task context: trace, session, run and autolog settings of a caller, sent with a task to the process that runs it.

The modules in ``workers`` decide how the context travels; this one captures it as text and restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import orjson

from ..._guard import guard, warn_once
from ...hooks import catalog, deferred_settings
from ...hooks.autolog_settings import FLAG_NAMES, AutologSettings
from .._libraries import find_library

_JSON_TYPES: Final = (str, int, float, bool, type(None), dict, list, tuple)


def capture_task_context(*, near: bool = False) -> str | None:
    """Return the caller's context as JSON text, or None after a shutdown or an error.

    Inside of a training, the hooks of training libraries are left out: the fits that a search runs in its workers are
    parts of that training.

    Args:
        near: the task goes to a process that this one starts, which may learn the credentials in addresses.
    """
    with guard("reading what surrounds a task"):
        from ...tracing import propagation
        from .._training.current import mark_training

        if (context := propagation.capture_context(near=near)) is None:
            return None
        fitting = mark_training()
        context["hooks"] = {
            name: settings for name, settings in _list_active_hooks() if fitting is None or not settings["trains"]
        }
        context["fitting"] = fitting
        return orjson.dumps(context, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return None


def _list_active_hooks() -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name and the settings of each integration that is turned on, be it imported or not."""
    for name, settings, trains in deferred_settings.iterate_deferred():
        yield name, _describe(settings, trains=trains)
    for name, module in catalog.list_integrations().items():
        hook = catalog.find_loaded_hook(name, module)
        if hook is not None and hook.is_wanted and not name.startswith(catalog.WORKERS_PREFIX):
            yield name, _describe(hook.settings, trains=hasattr(hook, "library"))


def _describe(settings: AutologSettings, *, trains: bool) -> dict[str, object]:
    """Return *settings* as they are sent with a task."""
    return {
        "settings": [getattr(settings, flag) for flag in FLAG_NAMES],
        "options": {key: value for key, value in settings.options.items() if isinstance(value, _JSON_TYPES)},
        "trains": trains,
    }


@contextmanager
def restored(text: str | None, *, wait: bool | Callable[[], bool] = True) -> Iterator[None]:
    """Restore a captured context around the block, and send the spans of the block when it ends.

    Args:
        text: the captured context; None changes nothing.
        wait: at the end, wait a few seconds at most until the spans are stored. A task on an event loop must not wait.
            A function is asked at the end.
    """
    with ExitStack() as undo:
        with guard("restoring what surrounds a task"):
            if text is not None:
                from ...tracing import propagation
                from .._training.current import join_marked_training, join_remote_training

                around = orjson.loads(text)
                undo.enter_context(propagation.restore_context(around, wait=wait))
                fitting = around["fitting"]
                if propagation.is_same_process(around):
                    if fitting:
                        undo.enter_context(join_marked_training(fitting))
                else:
                    _apply_sent_settings(around["hooks"])
                    if fitting:
                        undo.enter_context(join_remote_training())
        yield


_applied_settings: dict[str, object] = {}  # the settings that each integration last received with a task, by its name


def _apply_sent_settings(hooks: Mapping[str, Any]) -> None:
    """Turn the integrations on with the settings of the process that sent the task."""
    for name, sent in hooks.items():
        if _applied_settings.get(name) == sent:
            continue
        _applied_settings[name] = sent
        settings = AutologSettings(**dict(zip(FLAG_NAMES, sent["settings"], strict=True)), options=sent["options"])
        _apply_one(name, settings)


def _apply_one(name: str, settings: AutologSettings) -> None:
    """Turn the integration *name* on with *settings*, unless it is so; warn if its distribution is not installed."""
    hook: Any = catalog.find_loaded_hook(name, catalog.list_integrations().get(name, ""))
    if hook is not None and hook.is_wanted and hook.settings == settings:
        return
    if name in catalog.list_external_integrations():
        for found, external in catalog.iterate_external_hooks():
            if found == name:
                deferred_settings.turn_on(external, settings)
    elif name in catalog.list_integrations():
        deferred_settings.apply_settings(name, find_library(name), settings)
    else:
        line = "mlspan: the integration %s is on where this task comes from, and is not installed here"
        warn_once(line, name, place=name)


class Task:
    """A function together with the context of its caller, which is restored around each call.

    It can be pickled if the function can.
    """

    __slots__ = ("__weakref__", "fn", "task_context")

    def __init__(self, fn: Callable[..., object], task_context: str) -> None:
        self.fn, self.task_context = fn, task_context

    def __call__(self, *args: object, **kwargs: object) -> object:
        with restored(self.task_context):
            return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[object, ...]:
        return Task, (self.fn, self.task_context)


def task(fn: Any, *, near: bool = True) -> object:
    """Return *fn* as a :class:`Task` with the current context; return *fn* itself if there is no context."""
    task_context = capture_task_context(near=near)
    return fn if task_context is None or isinstance(fn, Task) else Task(fn, task_context)
