"""A dict of bounded size, for what this process remembers without knowing when it may forget it.

Which values of attributes are worth remembering stands here too: most of a program's spans have the same words and
numbers.
"""

from __future__ import annotations

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

CACHED_TYPES: Final = frozenset({int, bool})
MAX_CACHED_TEXT: Final = 64  # characters: words that come again are shorter


class BoundedDict(dict[K, V]):
    """A dict that forgets its oldest entries once it holds more than *max_entries*.

    An entry is as old as its last assignment; reading it does not renew it. A sixteenth of the entries goes at once, so
    that dropping them costs next to nothing. Only assignment keeps the bound,
    ``update`` and ``setdefault`` do not.

    Threads may share one without a lock, and a finalizer may use it in the middle of an assignment: each step is one
    call of C code, and an entry that somebody else has removed meanwhile is no error. While others write, iterate over
    a copy.

    Args:
        max_entries: the most entries that are kept, at least 1.
    """

    __slots__ = ("max_entries",)

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self.max_entries = max_entries

    def __setitem__(self, key: K, value: V) -> None:
        if key in self:
            self.pop(key, None)  # it comes back as the youngest
        super().__setitem__(key, value)
        if len(self) > self.max_entries:
            for oldest in list(self)[: max(1, self.max_entries // 16)]:  # list(): no thread can come in between
                self.pop(oldest, None)
