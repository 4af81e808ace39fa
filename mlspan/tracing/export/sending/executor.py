"""The bounded executor: the threads on which one sink does several things at once, which all wait for its backend.

One executor serves all three levels of concurrent work: the batches of a spool that are under way at once, the portions
that a batch is cut into, and the requests of a portion. Each level has a limit of its own, and all together have the
executor's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from ...otel.compat import suppress_on_this_thread
from ..threads import start
from ..types import BackendUnavailable

Item = TypeVar("Item")
_NO_ITEM: Final[Any] = object()


class _Job:
    """A function, and where the items to call it with come from."""

    def __init__(self, take: Callable[[], Any], work: Callable[[Any], None], most: int) -> None:
        self._take, self._work, self._most = take, work, most
        self._taking = threading.Lock()  # one thread takes at a time
        self._closed = False
        self.running = 0
        self.errors: list[Exception] = []

    def take_item(self, turn: threading.Condition, *, wait: bool) -> Any:
        """Return the next item and count it as running. Without *wait*, give up if another thread is taking one.

        An error in taking one is raised later, as that of the function is: a helping thread could tell nobody.
        """
        if not self._taking.acquire(blocking=wait):
            return _NO_ITEM
        try:
            if self._closed or self.errors or self.running >= self._most or (item := self._take()) is None:
                return _NO_ITEM
            with turn:
                self.running += 1
        except Exception as error:  # noqa: BLE001  # see above
            self.errors.append(error)
            return _NO_ITEM
        finally:
            self._taking.release()
        return item

    def run_item(self, item: Any) -> None:
        """Call the function. Its error is raised later, on the thread that has asked for the job."""
        try:
            self._work(item)
        except Exception as error:  # noqa: BLE001  # see above
            self.errors.append(error)

    def close(self) -> None:
        """Let nobody take another item."""
        with self._taking:
            self._closed = True


class BoundedExecutor:
    """At most *most* threads, each thread that asks for work included.

    A thread that asks works too, so work may ask for more work, and all gets done where no thread can be started.
    The others are started when there is work and end when there is none.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._turn = threading.Condition()
        self._changes = 0  # how often an item may have become available, or the last one of a job may have ended
        self._jobs: list[_Job] = []  # the innermost last
        self._helpers = self._idle = 0

    def run_each(self, work: Callable[[Item], None], items: Iterable[Item], most: int | None = None) -> None:
        """Call *work* with each of *items*, started in order, at most *most* at once.

        After an error nothing more is started, and the error is raised when all running calls have ended; of several, a
        BackendUnavailable comes first.
        """
        waiting = deque(items)
        if len(waiting) == 1:  # here: a thread that has held much content keeps some of its memory
            work(waiting.popleft())
            return
        limit = self._most if most is None else most
        job = _Job(lambda: waiting.popleft() if waiting else None, work, limit)
        self._run_job(job, min(len(waiting), limit) - 1)

    def run_available(self, take: Callable[[], Item | None], work: Callable[[Item], None], most: int) -> None:
        """Call *work* with what *take* returns, at most *most* at once, until it returns None and all calls have ended.

        *take* is called by one thread at a time, again when a call has ended and after :meth:`notify`. Errors are
        raised as by :meth:`run_each`.
        """
        self._run_job(_Job(take, work, most), most - 1)

    def notify(self) -> None:
        """Have *take* asked again, as there may be more. Any thread may call this."""
        with self._turn:
            self._changes += 1
            self._turn.notify_all()

    def _run_job(self, job: _Job, helpers: int) -> None:
        """Work on *job* until it is done, with the help of so many other threads, and raise its error."""
        with self._turn:
            self._jobs.append(job)
        self.notify()
        self._start_helpers(helpers)
        try:
            self._work_on(job)
        finally:
            job.close()
            with self._turn:
                self._jobs.remove(job)
                self._turn.notify_all()
                while job.running:
                    self._turn.wait()
        if job.errors:
            raise min(job.errors, key=lambda error: not isinstance(error, BackendUnavailable))

    def _work_on(self, job: _Job) -> None:
        """Run items of *job* until there is none and none is running."""
        while True:
            seen = self._changes
            if (item := job.take_item(self._turn, wait=True)) is not _NO_ITEM:
                self._run_item(job, item)
                continue
            with self._turn:
                if self._changes == seen:
                    if not job.running:
                        return
                    self._turn.wait()

    def _run_item(self, job: _Job, item: Any) -> None:
        self.notify()  # there may be more, which others could not ask for while this thread did
        try:
            job.run_item(item)
        finally:
            with self._turn:
                job.running -= 1
            self.notify()

    def _start_helpers(self, wanted: int) -> None:
        """Start threads until *wanted* are free to help, within the executor's limit."""
        while True:
            with self._turn:
                if self._idle >= wanted or self._helpers >= self._most - 1:
                    return
                self._helpers += 1
                self._idle += 1
            if start("mlspan-send", self._run_helper) is None:
                with self._turn:
                    self._helpers -= 1
                    self._idle -= 1
                return

    def _run_helper(self) -> None:
        """Work for whoever has asked, on the innermost job first, until there is no job."""
        suppress_on_this_thread()
        while True:
            with self._turn:
                jobs, seen = self._jobs[::-1], self._changes
                if not jobs:
                    self._helpers -= 1
                    self._idle -= 1
                    return
            found = self._help_one_of(jobs)
            del jobs  # a thread that the end of the process stops here must not keep a sink and its connections alive
            if not found:
                with self._turn:
                    if self._changes == seen and self._jobs:
                        self._turn.wait()

    def _help_one_of(self, jobs: list[_Job]) -> bool:
        """Run one item of the first of *jobs* that has one. Return False if none has."""
        for job in jobs:
            if (item := job.take_item(self._turn, wait=False)) is not _NO_ITEM:
                with self._turn:
                    self._idle -= 1
                try:
                    self._run_item(job, item)
                finally:
                    with self._turn:
                        self._idle += 1
                return True
        return False
