"""A concurrency limit for batches: a new batch is sent while earlier ones are still on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from .thread_pool import Crew

Batch = TypeVar("Batch")


class Lanes:
    """Sends at most *most* batches at once. Other threads may call ``notify_new_batch``."""

    def __init__(self, most: int) -> None:
        self._most, self._crew = most, Crew(most)
        self._turn = threading.Condition()
        self._under_way = 0
        self._failed = False

    def more(self) -> None:
        """Wake the threads that wait for a batch."""
        with self._turn:
            self._turn.notify_all()

    def empty(self, take: Callable[[], Batch | None], send: Callable[[Batch], None]) -> None:
        """Call *send* with each batch from *take* until there is none and all have been sent.

        *take* runs on one thread at a time. After an error no further batch is taken; the error is raised when all
        running calls have ended.
        """
        self._failed = False
        self._crew.each(lambda _: self._one(take, send), range(self._most))

    def _one(self, take: Callable[[], Batch | None], send: Callable[[Batch], None]) -> None:
        """Send one batch after another until none is left."""
        while (batch := self._next(take)) is not None:
            try:
                send(batch)
            except BaseException:
                self._failed = True
                raise
            finally:
                self._ended()

    def _next(self, take: Callable[[], Batch | None]) -> Batch | None:
        """Return the next batch, waiting while others are on their way.

        None if there is none left or a send has failed.
        """
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
