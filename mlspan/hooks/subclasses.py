"""Subclass tracing: trace methods of a class and of all its subclasses, those that are defined later included.

For frameworks whose users and plugins override the method that is to be traced.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from weakref import WeakSet

from .._guard import guard
from ..tracing.operations.noop import NOOP_OPERATION
from .patching import CallStarter, Undo, remember_undo, trace_function

# Private names that some versions or classes lack, each with what is then left out.
PRIVATE_FIELDS: Final[dict[str, str]] = {
    "_is_protocol": "that a class of typing declares methods and defines none",
}

# Starts the operation of a call, given its arguments and keyword arguments; returns it, or a stand-in for it.
OperationStarter = Callable[[Any, Any], Any]
# Returns the traced function, given the original, the starter of operations, and a list that is emptied to turn it off.
FunctionWrapper = Callable[[Any, OperationStarter, list[bool]], Any]


def start_while_on(start: OperationStarter, on: list[bool]) -> OperationStarter:
    """Return *start*, changed to start nothing once the list *on* is empty."""
    return lambda args, kwargs: start(args, kwargs) if on else NOOP_OPERATION


def trace_subclasses(
    base: str, methods: Mapping[str, OperationStarter], wrap: FunctionWrapper = trace_function
) -> Undo:
    """Trace *methods* of a class and of all its subclasses, those that are defined later included.

    A method is traced in each class of the family that defines it. A method that comes from a class outside of the
    family, a mixin, is traced in the subclass that inherits it. A method that calls the one it overrides makes two
    calls that are both traced: the functions in *methods* decide what to do with the inner one.

    Args:
        base: the class, as ``module:Class``; the module is imported.
        methods: by a method's name, the function that starts the operation of a call; see
            :meth:`mlspan.hooks.Hook.make_starter`.
        wrap: makes the traced function out of the original; it has to pass calls through once its list is empty.

    Returns:
        The function that puts the originals back.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such class, or it defines ``__init_subclass__`` itself.
    """
    module, _, name = base.partition(":")
    root: object = getattr(importlib.import_module(module), name)
    if "__init_subclass__" in vars(root):
        msg = f"{base} has an __init_subclass__ of its own"
        raise AttributeError(msg)
    tracer = _SubclassTracer(root, methods, wrap)
    remember_undo(tracer.remove_patches)
    tracer.patch_family()
    return tracer.remove_patches


class _SubclassTracer:
    """The classes below one root that have traced methods, and how to put their originals back."""

    def __init__(self, root: Any, methods: Mapping[str, OperationStarter], wrap: FunctionWrapper) -> None:
        self._root, self._methods, self._wrap = root, methods, wrap
        self._members: WeakSet[type] = WeakSet()
        self._on = [True]
        self._welcome = _make_subclass_hook(self, root)

    def patch_family(self) -> None:
        """Patch the root and all its subclasses, and from now on each new one."""
        for cls in _walk_subclasses(self._root):
            self._patch_class(cls)
        self._root.__init_subclass__ = classmethod(self._welcome)

    def add_subclass(self, cls: type) -> None:
        """Patch a subclass that has just been defined."""
        if self._on:
            with guard(f"watching {cls.__name__}"):
                self._patch_class(cls)

    def _patch_class(self, cls: type) -> None:
        """Replace those of the methods in *cls* that are to be traced there."""
        self._members.add(cls)
        for method, start in self._methods.items():
            owner = next((one for one in cls.__mro__ if method in vars(one)), None)
            if owner is None or not self._should_patch(cls, owner):
                continue
            fn = vars(owner)[method]
            if inspect.isfunction(fn) and getattr(fn, "_mlspan_on", None) is not self._on:
                if isinstance(start, CallStarter):  # callers pass arguments as the root's method names them
                    start = start.bind_function(inspect.unwrap(getattr(self._root, method, fn)))  # noqa: PLW2901  # bound
                made = self._wrap(fn, start, self._on)
                made._mlspan_on, made._mlspan_own = self._on, owner is cls
                setattr(cls, method, made)

    def _should_patch(self, cls: type, owner: type) -> bool:
        """Return whether a method that *cls* has from *owner* is traced in *cls*: its own, or that of a mixin."""
        is_protocol = vars(owner).get("_is_protocol") is True  # a protocol declares methods without defining them
        return owner is cls or not (issubclass(owner, self._root) or is_protocol)

    def remove_patches(self) -> None:
        """Put every original back, and no longer patch new subclasses."""
        self._on.clear()
        for cls in self._members:
            for method in self._methods:
                fn: Any = vars(cls).get(method)
                if getattr(fn, "_mlspan_on", None) is not self._on:
                    continue
                if fn._mlspan_own:
                    setattr(cls, method, fn.__wrapped__)
                else:
                    delattr(cls, method)
        if getattr(vars(self._root).get("__init_subclass__"), "__func__", None) is self._welcome:
            del self._root.__init_subclass__


def _make_subclass_hook(family: _SubclassTracer, root: Any) -> Any:
    """Return the ``__init_subclass__`` of *root* that patches each new subclass."""

    def init_subclass(cls: Any, /, **kwargs: object) -> None:
        super(root, cls).__init_subclass__(**kwargs)
        family.add_subclass(cls)

    return init_subclass


def _walk_subclasses(root: type) -> Iterator[type]:
    """Yield *root* and all its subclasses, parents first."""
    yield root
    children: list[type] = root.__subclasses__()
    for cls in children:
        yield from _walk_subclasses(cls)
