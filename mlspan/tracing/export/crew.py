"""A few threads that share what one of them is asked to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

import opentelemetry.context as otel

from .parcel import Away

Item = TypeVar("Item")
_END: Final[Any] = object()


class Crew:
    """So many threads at most, those that ask included; who is free helps whoever asks, from inside of work too."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = threading.Semaphore(most - 1)

    def each(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """*work* with each of *items*, begun in their order. After an error, which is raised, nothing more is begun."""
        waiting: deque[Item] = deque(items)
        errors: list[Exception] = []

        def run() -> None:
            try:
                while (item := _next(waiting)) is not _END:
                    work(item)
            except Exception as error:  # noqa: BLE001  # raised below, on the thread that asked
                errors.append(error)
                waiting.clear()

        def help_out() -> None:
            otel.attach(otel.set_value(otel._SUPPRESS_INSTRUMENTATION_KEY, True))  # nobody traces our sending
            try:
                run()
            finally:
                self._free.release()

        threads = list(self._started(help_out, len(waiting) - 1))
        run()
        for thread in threads:
            thread.join()
        if errors:
            raise min(errors, key=lambda error: not isinstance(error, Away))

    def _started(self, work: Callable[[], None], most: int) -> Iterator[threading.Thread]:
        for _ in range(most):
            if not self._free.acquire(blocking=False):
                return
            thread = threading.Thread(target=work, name="mlspan-send", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, and starts no more of them
                self._free.release()
                return
            yield thread


def _next(waiting: deque[Any]) -> Any:
    try:
        return waiting.popleft()
    except IndexError:
        return _END
