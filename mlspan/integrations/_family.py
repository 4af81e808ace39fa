"""Watching a method of a class and of whatever inherits from it, whenever it is defined."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

from .._guard import guard
from ._patch import Undo, watched

Open = Callable[[Any, Any], Any]  # (arguments, keyword arguments) -> a Live, or what stands in for one
Wrap = Callable[[Any, Open, list[bool]], Any]  # (function, open, on while it is not empty) -> the watched function


def watch_family(base: str, methods: Mapping[str, Open], wrap: Wrap = watched) -> Undo:
    """Watch *methods* of the class ``module:Class`` and of all its subclasses, those of the future included.

    *wrap* makes the watched function; what it makes falls silent when the list it is given is emptied.

    Raises ImportError or AttributeError where there is no such class.
    """
    module, _, name = base.partition(":")
    root: Any = getattr(importlib.import_module(module), name)
    if "__init_subclass__" in vars(root):
        msg = f"{base} has an __init_subclass__ of its own"
        raise AttributeError(msg)
    return _Family(root, methods, wrap).leave


class _Family:
    def __init__(self, root: Any, methods: Mapping[str, Open], wrap: Wrap) -> None:
        self._root, self._methods, self._wrap = root, methods, wrap
        self._members: WeakSet[type] = WeakSet()
        self._on = [True]
        for cls in _descendants(root):
            self._join(cls)
        self._welcome = _welcome(self, root)
        root.__init_subclass__ = classmethod(self._welcome)

    def newcomer(self, cls: type) -> None:
        if self._on:
            with guard(f"watching {cls.__name__}"):
                self._join(cls)

    def _join(self, cls: type) -> None:
        self._members.add(cls)
        for method, open_ in self._methods.items():
            owner = next((one for one in cls.__mro__ if method in vars(one)), None)
            if owner is None or not self._is_to_be_watched_in(cls, owner):
                continue
            fn = vars(owner)[method]
            if inspect.isfunction(fn) and getattr(fn, "_mlspan_on", None) is not self._on:
                made = self._wrap(fn, open_, self._on)
                made._mlspan_on, made._mlspan_own = self._on, owner is cls
                setattr(cls, method, made)

    def _is_to_be_watched_in(self, cls: type, owner: type) -> bool:
        # What a mixin brings has no class in the family to be watched in, so it is watched in this one.
        is_protocol = vars(owner).get("_is_protocol") is True  # one only says what methods look like
        return owner is cls or not (issubclass(owner, self._root) or is_protocol)

    def leave(self) -> None:
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


def _welcome(family: _Family, root: Any) -> Any:
    def welcome(cls: Any, /, **kwargs: Any) -> None:
        super(root, cls).__init_subclass__(**kwargs)
        family.newcomer(cls)

    return welcome


def _descendants(root: type) -> Iterator[type]:
    yield root
    children: list[type] = root.__subclasses__()
    for cls in children:
        yield from _descendants(cls)
