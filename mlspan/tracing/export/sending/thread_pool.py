"""A thread pool in which the calling thread works too, and which may be used from inside its own work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import opentelemetry.context as otel

from ..threads import start
from ..types import Away

Item = TypeVar("Item")
_END: Final[Any] = object()


class _Job:
    """A call of ``run_each``: one function and the items to call it with."""

    def __init__(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
        self._work = work
        self.waiting: deque[Any] = deque(items)
        self._running = 0
        self._turn = threading.Condition()
        self.errors: list[Exception] = []

    def run(self) -> bool:
        """Call the function with the next item; return False if there is none."""
        with self._turn:
            if not self.waiting:
                return False
            item = self.waiting.popleft()
            self._running += 1
        try:
            self._work(item)
        except Exception as error:  # noqa: BLE001  # raised later on the calling thread
            self.errors.append(error)
            self.waiting.clear()
        finally:
            with self._turn:
                self._running -= 1
                self._turn.notify_all()
        return True

    def wait(self) -> None:
        """Wait until no thread is working on any of the items."""
        with self._turn:
            while self._running:
                self._turn.wait()


class Crew:
    """A pool of *most* threads, the calling one included. Helper threads end when there is no work."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._jobs: list[_Job] = []
        self._helping = 0
        self._lock = threading.Lock()

    def each(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call *work* with each of *items*, started in order.

        After an error nothing more is started, and the error is raised; of several, a BackendUnavailable comes first.
        """
        job = _Job(work, items)
        with self._lock:
            self._jobs.append(job)
        self._call(len(job.waiting) - 1)
        while job.run():
            pass
        with self._lock:
            self._jobs.remove(job)
        job.wait()
        if job.errors:
            raise min(job.errors, key=lambda error: not isinstance(error, Away))

    def _call(self, wanted: int) -> None:
        """Start up to *wanted* helper threads, within the limit of the pool."""
        for _ in range(wanted):
            with self._lock:
                if self._helping >= self.most - 1:
                    return
                self._helping += 1
            if start("mlspan-send", self._help) is None:
                self._left()
                return

    def _help(self) -> None:
        """Work for any caller of ``run_each`` until there is nothing left to start."""
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # others must not trace our sending
        while True:
            with self._lock:
                job = next((job for job in self._jobs if job.waiting), None)
                if job is None:
                    self._helping -= 1
                    return
            job.run()

    def _left(self) -> None:
        with self._lock:
            self._helping -= 1
