"""A thread pool in which the calling thread works too, and which may be used from inside its own work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import opentelemetry.context as otel

from ..threads import start
from ..types import BackendUnavailable

Item = TypeVar("Item")
_END: Final[Any] = object()


class _PoolJob:
    """A call of ``run_each``: one function and the items to call it with."""

    def __init__(self, work: Callable[[Any], None], items: Iterable[Any]) -> None:
        self._work = work
        self.waiting: deque[Any] = deque(items)
        self._running = 0
        self._turn = threading.Condition()
        self.errors: list[Exception] = []

    def run_next_item(self) -> bool:
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

    def wait_for_running_items(self) -> None:
        """Wait until no thread is working on any of the items."""
        with self._turn:
            while self._running:
                self._turn.wait()


class ThreadPool:
    """A pool of *most* threads, the calling one included. Helper threads end when there is no work."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._jobs: list[_PoolJob] = []
        self._helping = 0
        self._lock = threading.Lock()

    def run_each(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Call *work* with each of *items*, started in order.

        After an error nothing more is started, and the error is raised; of several, a BackendUnavailable comes first.
        """
        job = _PoolJob(work, items)
        with self._lock:
            self._jobs.append(job)
        self._start_helpers(len(job.waiting) - 1)
        while job.run_next_item():
            pass
        with self._lock:
            self._jobs.remove(job)
        job.wait_for_running_items()
        if job.errors:
            raise min(job.errors, key=lambda error: not isinstance(error, BackendUnavailable))

    def _start_helpers(self, wanted: int) -> None:
        """Start up to *wanted* helper threads, within the limit of the pool."""
        for _ in range(wanted):
            with self._lock:
                if self._helping >= self.most - 1:
                    return
                self._helping += 1
            if start("mlspan-send", self._run_helper) is None:
                self._note_helper_end()
                return

    def _run_helper(self) -> None:
        """Work for any caller of ``run_each`` until there is nothing left to start."""
        otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # others must not trace our sending
        while True:
            with self._lock:
                job = next((job for job in self._jobs if job.waiting), None)
                if job is None:
                    self._helping -= 1
                    return
            job.run_next_item()

    def _note_helper_end(self) -> None:
        with self._lock:
            self._helping -= 1
