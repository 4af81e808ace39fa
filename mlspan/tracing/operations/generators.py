"""Traced generators: the span of a generator is current while the generator's body runs, and only then."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .operation import Live


class Steps:
    """A driver between a traced generator and its caller. ``yield from`` it, or await its asynchronous methods.

    The span is attached around each step rather than around all of them. So it does not leak into the caller's code
    between two steps, and the steps of one generator may run in different tasks.
    """

    def __init__(self, own: Any, operation: Any) -> None:
        self._own = own
        self._live: Live | None = operation if isinstance(operation, Live) else None
        self._yielded: list[Any] = []
        if self._live is not None:
            self._live.hand_over()

    def __iter__(self) -> Steps:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        with _Step(self):
            return self._seen(self._own.send(value))

    def throw(self, error: BaseException) -> Any:
        with _Step(self):
            return self._seen(self._own.throw(error))

    def close(self) -> None:
        with _Step(self):
            self._own.close()
        self.end(stream_end="closed")

    def anext(self) -> Awaitable[Any]:
        return self.asend(None)

    async def asend(self, value: Any) -> Any:
        with _Step(self):
            return self._seen(await self._own.asend(value))

    async def athrow(self, error: BaseException) -> Any:
        with _Step(self):
            return self._seen(await self._own.athrow(error))

    async def aclose(self) -> None:
        with _Step(self):
            await self._own.aclose()
        self.end(stream_end="closed")

    def _seen(self, item: Any) -> Any:
        """Keep *item* for the record and return it."""
        self._yielded.append(item)
        return item

    def end(self, error: BaseException | None = None, stream_end: Any = None) -> None:
        """Record what the generator returned, else what it yielded, and finish the operation."""
        operation, yielded = self._live, self._yielded
        if operation is None:
            return
        if isinstance(error, StopIteration) and error.value is not None:
            operation.observe(error.value)
        elif yielded:
            operation.observe("".join(yielded) if all(isinstance(item, str) for item in yielded) else yielded)
        operation.finish(
            None if isinstance(error, (StopIteration, StopAsyncIteration)) else error, stream_end=stream_end
        )


class _Step:
    """A context manager around one step: the span is current inside, and an exception ends the generator."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def __enter__(self) -> None:
        self._current = self._steps._live.current() if self._steps._live else None  # entered and left as a pair
        if self._current is not None:
            self._current.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._current is not None:
            self._current.__exit__(kind, error, trace)
        if error is not None:
            self._steps.end(error)
