"""Components that the program, or another component, calls itself: Haystack tells its tracers of pipelines' alone."""

from __future__ import annotations

import inspect
import sys
from contextlib import nullcontext
from typing import Any, Final

from opentelemetry import context as otel

from ..._guard import guard
from ..._shape import get_field
from ...hooks.hook import Hook
from ...hooks.patching import CallStarter, Undo, observe_method, remember_undo, trace_function
from ...tracing.operations.noop import NOOP_OPERATION
from ...tracing.operations.records import Chat
from .records import Content
from .runs import RUN_KEY, TracedRun

_MODULE: Final = "haystack.core.component.component"
_KINDS: Final = ("Generator", "Embedder", "Retriever", "Ranker")  # how the names of their classes end
_METHODS: Final = ("run", "run_async")


class _CalledRun(TracedRun):
    """The run of a component that somebody calls, as an operation around the call."""

    def __init__(self, hook: Hook, owner: object, given: dict[str, Any]) -> None:
        tags = {"haystack.component.type": type(owner).__name__}
        super().__init__(hook, nullcontext(), "haystack.component.run", tags, None)
        self.owner, self._given = owner, given

    def __enter__(self) -> _CalledRun:
        super().__enter__()
        self.note_tag("haystack.component.input", Content(self._given))
        return self

    def record_result(self, value: object, *, awaited: bool = False) -> object:  # noqa: ARG002  # as of an operation
        self.note_tag("haystack.component.output", Content(value))
        return value


def _open_call(hook: Hook, args: Any, kwargs: Any, *, function: Any = None) -> Any:
    """Start the operation of a call, unless Haystack has told of it, or it is a part of a generator's call."""
    owner, around = args[0], otel.get_value(RUN_KEY)
    if isinstance(around, TracedRun):
        is_part = isinstance(getattr(around.operation, "record", None), Chat) and _find_kind(type(owner)) == "Generator"
        if around.owner is owner or is_part:
            return NOOP_OPERATION
    try:
        given = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:  # the call raises its own
        return NOOP_OPERATION
    return _CalledRun(hook, owner, dict([*given.items()][1:]))


def _find_kind(cls: type) -> str | None:
    return next((kind for kind in _KINDS if cls.__name__.endswith(kind)), None)


class _ComponentClasses:
    """The classes of components that are traced, and how to put their methods back."""

    def __init__(self, hook: Hook) -> None:
        self._start = CallStarter(_open_call, hook)
        self._enabled = [True]
        self._methods: dict[tuple[type, str], Any] = {}  # the originals

    def trace_class(self, cls: type) -> None:
        """Trace the methods that *cls* and the classes above it define."""
        for owner in cls.__mro__:
            for name in _METHODS if _find_kind(owner) else ():
                own = vars(owner).get(name)
                if inspect.isfunction(own) and (owner, name) not in self._methods:
                    self._methods[owner, name] = own
                    setattr(owner, name, trace_function(own, self._start, self._enabled))

    def put_back(self) -> None:
        """Put the originals back, but where somebody else has patched since."""
        self._enabled.clear()
        while self._methods:
            (owner, name), own = self._methods.popitem()
            if getattr(vars(owner).get(name), "__wrapped__", None) is own:
                setattr(owner, name, own)


def trace_components(hook: Hook, target: str) -> Undo:
    """Trace the components that there are, and each class of which a component is made from now on.

    Args:
        hook: the hook whose settings apply.
        target: what makes components: the ``__call__`` of their classes' class.
    """
    classes = _ComponentClasses(hook)
    known = get_field(get_field(sys.modules[_MODULE], "component"), "registry")
    with guard("tracing components"):
        for cls in list(known.values()) if isinstance(known, dict) else ():
            classes.trace_class(cls)
    stop = observe_method(target, lambda _args, _kwargs, made: classes.trace_class(type(made)))
    remember_undo(classes.put_back)

    def undo() -> None:
        stop()
        classes.put_back()

    return undo
