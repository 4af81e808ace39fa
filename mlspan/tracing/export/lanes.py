"""Batches on their way side by side: what becomes ready meanwhile need not wait for the end of what went before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .crew import Crew

Batch = TypeVar("Batch")


class Lanes:
    """So many batches at once at most. ``more`` is for other threads."""

    def __init__(self, most: int) -> None:
        self._most, self._crew = most, Crew(most)
        self._turn = threading.Condition()
        self._under_way = 0
        self._failed = False

    def more(self) -> None:
        """There is something to take."""
        with self._turn:
            self._turn.notify_all()

    def empty(self, take: Callable[[], Batch | None], send: Callable[[Batch], None]) -> None:
        """*send* what there is to *take*, until there is nothing and nothing is on its way.

        After an error, which is raised once all have ended, nothing more is taken. *take* runs on one thread at a time.
        """
        self._failed = False
        self._crew.each(lambda _: self._one(take, send), range(self._most))

    def _one(self, take: Callable[[], Batch | None], send: Callable[[Batch], None]) -> None:
        while (batch := self._next(take)) is not None:
            try:
                send(batch)
            except BaseException:
                self._failed = True
                raise
            finally:
                self._ended()

    def _next(self, take: Callable[[], Batch | None]) -> Batch | None:
        with self._turn:
            while not self._failed:
                if (batch := take()) is not None:
                    self._under_way += 1
                    return batch
                if not self._under_way:
                    break
                self._turn.wait()
        return None

    def _ended(self) -> None:
        with self._turn:
            self._under_way -= 1
            self._turn.notify_all()
