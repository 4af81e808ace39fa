"""What surrounds a call and what autolog was asked for, carried along with a task to the process that runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import orjson

from .._guard import guard

_PACKAGE: Final = __name__.rpartition(".")[0]
_FLAGS: Final = ("log_traces", "exclusive", "silent", "any_version")
_PLAIN: Final = (str, int, float, bool, type(None), dict, list, tuple)


def capture(*, near: bool = False) -> str | None:
    """As text, what is to be around a task; None where nothing is recorded. *near*: see :func:`tracing.carry.capture`.

    Within a training, the autologging of trainings stays behind: what a search fits in its workers is part of it.
    """
    with guard("reading what surrounds a task"):
        from ..tracing import carry
        from ._fitting import current

        if (around := carry.capture(near=near)) is None:
            return None
        fitting = current() is not None
        around["hooks"] = {name: said for name, said in _asked() if not (fitting and said["trains"])}
        around["fitting"] = fitting
        return orjson.dumps(around, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return None


def _asked() -> Iterator[tuple[str, dict[str, Any]]]:
    """The integrations that are on, and with what settings."""
    from . import _NAMES

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
    """Run a task inside: what :func:`capture` saw surrounds it, and what it recorded is stored when it ends.

    *wait*: at the end, until it is stored, a few seconds at most; a task of an event loop does not.
    """
    with ExitStack() as undo:
        with guard("restoring what surrounds a task"):
            if text is not None:
                from ..tracing import carry
                from ._fitting import elsewhere

                around = orjson.loads(text)
                undo.enter_context(carry.restored(around, wait=wait))
                if not carry.is_here(around):
                    _take_over(around["hooks"])
                    if around["fitting"]:
                        undo.enter_context(elsewhere())
        yield


_taken: dict[str, Any] = {}  # what was last asked of each integration from elsewhere


def _take_over(hooks: Mapping[str, Any]) -> None:
    from ._hook import Settings

    for name, said in hooks.items():
        if _taken.get(name) == said:
            continue
        _taken[name] = said
        hook = importlib.import_module(f"{_PACKAGE}.{name}").HOOK
        settings = Settings(**dict(zip(_FLAGS, said["settings"], strict=True)), options=said["options"])
        if not hook._wanted or hook.settings != settings:
            hook.apply(settings)


class Task:
    """*fn*, to be called in another process with all that surrounds us here. Pickled as *fn* itself would be."""

    __slots__ = ("__weakref__", "carried", "fn")

    def __init__(self, fn: Callable[..., Any], carried: str) -> None:
        self.fn, self.carried = fn, carried

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with restored(self.carried):
            return self.fn(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Task, (self.fn, self.carried)


def task(fn: Any, *, near: bool = True) -> Any:
    """*fn* with what surrounds us here; as it is, where nothing is recorded."""
    carried = capture(near=near)
    return fn if carried is None or isinstance(fn, Task) else Task(fn, carried)
