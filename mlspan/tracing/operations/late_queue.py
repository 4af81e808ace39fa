"""A queue of what finalizers leave to be written later, as they may run in the middle of whatever writes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class LateQueue(Generic[_Item]):
    """Items that are given to *write* outside of finalizers, in the order in which they came.

    A finalizer of the application may interrupt *write* itself, while it holds locks of OpenTelemetry's SDK that its
    own thread cannot take twice. What is added there is left to the loop that it interrupts.

    Args:
        write: writes one item.
        most: items that are kept; the oldest go first.
    """

    def __init__(self, write: Callable[[_Item], object], most: int) -> None:
        self._write, self._items = write, deque[_Item](maxlen=most)
        self._writing_threads: set[int] = set()

    def add_item(self, item: _Item, *, collecting: bool = False) -> None:
        """Write *item*, or keep it for later if *collecting*, in a finalizer that knows of itself."""
        self._items.append(item)
        if not collecting:
            self.write_items()

    def write_items(self) -> None:
        """Write all items."""
        thread = get_ident()
        if thread in self._writing_threads:
            return
        self._writing_threads.add(thread)
        try:
            while self._items:
                try:
                    item = self._items.popleft()
                except IndexError:  # another thread has taken it
                    return
                self._write(item)
        finally:
            self._writing_threads.discard(thread)
