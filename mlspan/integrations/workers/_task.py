"""Task context: trace, session, run and autolog settings of a caller, sent with a task to the process that runs it.

The modules in ``workers`` decide how the context travels; this one captures it as text and restores it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import orjson

from ..._guard import guard

_PACKAGE: Final = "mlspan.integrations"
_FLAGS: Final = ("log_traces", "exclusive", "silent", "any_version")
_PLAIN: Final = (str, int, float, bool, type(None), dict, list, tuple)


def capture(*, near: bool = False) -> str | None:
    """Return the caller's context as JSON text, or None after a shutdown or an error.

    Inside of a training, the hooks of training libraries are left out: the fits that a search runs in its workers are
    parts of that training.

    Args:
        near: the task goes to a process that this one starts, which may be told the credentials in addresses.
    """
    with guard("reading what surrounds a task"):
        from ...tracing import propagation
        from .._training.training import current

        if (context := propagation.capture(near=near)) is None:
            return None
        fitting = current() is not None
        context["hooks"] = {name: settings for name, settings in _asked() if not (fitting and settings["trains"])}
        context["fitting"] = fitting
        return orjson.dumps(context, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return None


def _asked() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the settings of each integration that is turned on."""
    from .. import _NAMES

    for name in _NAMES:
        hook = getattr(sys.modules.get(f"{_PACKAGE}.{name}"), "HOOK", None)
        if hook is not None and hook._wanted:
            settings = hook.settings
            yield (
                name,
                {
                    "settings": [getattr(settings, flag) for flag in _FLAGS],
                    "options": {key: value for key, value in settings.options.items() if isinstance(value, _PLAIN)},
                    "trains": hasattr(hook, "library"),
                },
            )


@contextmanager
def restored(text: str | None, *, wait: bool = True) -> Iterator[None]:
    """Restore a captured context around the block, and send the spans of the block when it ends.

    Args:
        text: the captured context; None changes nothing.
        wait: at the end, wait a few seconds at most until the spans are stored. A task on an event loop must not wait.
    """
    with ExitStack() as undo:
        with guard("restoring what surrounds a task"):
            if text is not None:
                from ...tracing import propagation
                from .._training.training import elsewhere

                around = orjson.loads(text)
                undo.enter_context(propagation.restored(around, wait=wait))
                if not propagation.is_here(around):
                    _take_over(around["hooks"])
                    if around["fitting"]:
                        undo.enter_context(elsewhere())
        yield


_taken: dict[str, Any] = {}  # the settings that each integration last received with a task, by its name


def _take_over(hooks: Mapping[str, Any]) -> None:
    """Turn the integrations on with the settings of the process that sent the task."""
    from ...hooks.hook import Settings

    for name, sent in hooks.items():
        if _taken.get(name) == sent:
            continue
        _taken[name] = sent
        hook = importlib.import_module(f"{_PACKAGE}.{name}").HOOK
        settings = Settings(**dict(zip(_FLAGS, sent["settings"], strict=True)), options=sent["options"])
        if not hook._wanted or hook.settings != settings:
            hook.apply(settings)


class Task:
    """A function together with the context of its caller, which is restored around each call.

    It can be pickled if the function can.
    """

    __slots__ = ("__weakref__", "carried", "fn")

    def __init__(self, fn: Callable[..., Any], carried: str) -> None:
        self.fn, self.carried = fn, carried

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with restored(self.carried):
            return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.fn, self.carried)


def task(fn: Any, *, near: bool = True) -> Any:
    """Return *fn* as a :class:`Task` with the current context; return *fn* itself if there is no context."""
    carried = capture(near=near)
    return fn if carried is None or isinstance(fn, Task) else Task(fn, carried)
