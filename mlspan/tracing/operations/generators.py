"""Traced generators: the span of a generator is current while the generator's body runs, and only then."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from .operation import Operation
from .stream import StreamEnd

MOST_ITEMS: Final = 100_000  # of a generator or a stream that are kept for the output


def join_items(items: list[Any]) -> object:
    """Return what a generator or a stream has given as one output: its text if all of them are text."""
    return "".join(items) if all(type(item) is str for item in items) else items  # isinstance would ask each item


class TracedGenerator:
    """A driver between a traced generator and its caller. ``yield from`` it, or await its asynchronous methods.

    The span is attached around each step rather than around all of them. So it does not leak into the caller's code
    between two steps, and the steps of one generator may run in different tasks.
    """

    def __init__(self, own: Any, operation: Any) -> None:
        self._generator = own
        self._operation: Operation | None = operation if isinstance(operation, Operation) else None
        self._yielded: list[Any] = []
        if self._operation is not None:
            self._operation.hand_over()

    def __iter__(self) -> TracedGenerator:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: object) -> object:
        with _StepContext(self):
            return self._note_yielded(self._generator.send(value))

    def throw(self, error: BaseException) -> Any:
        with _StepContext(self):
            return self._note_yielded(self._generator.throw(error))

    def close(self) -> None:
        with _StepContext(self):
            self._generator.close()
        self.finish_operation(stream_end="closed")

    def anext(self) -> Awaitable[object]:
        return self.asend(None)

    async def asend(self, value: object) -> object:
        with _StepContext(self):
            return self._note_yielded(await self._generator.asend(value))

    async def athrow(self, error: BaseException) -> Any:
        with _StepContext(self):
            return self._note_yielded(await self._generator.athrow(error))

    async def aclose(self) -> None:
        with _StepContext(self):
            await self._generator.aclose()
        self.finish_operation(stream_end="closed")

    def _note_yielded(self, item: object) -> object:
        """Keep *item* for the record, unless there are very many, and return it."""
        if len(self._yielded) < MOST_ITEMS:
            self._yielded.append(item)
        return item

    def finish_operation(self, error: BaseException | None = None, stream_end: StreamEnd | None = None) -> None:
        """Record what the generator returned, else what it yielded, and finish the operation."""
        operation, yielded = self._operation, self._yielded
        if operation is None:
            return
        if isinstance(error, StopIteration) and error.value is not None:
            operation.observe(error.value)
        elif yielded:
            operation.observe(join_items(yielded))
        operation.finish(
            None if isinstance(error, (StopIteration, StopAsyncIteration)) else error, stream_end=stream_end
        )


class _StepContext:
    """A context manager around one step: the span is current inside, and an exception ends the generator."""

    def __init__(self, steps: TracedGenerator) -> None:
        self._traced = steps

    def __enter__(self) -> None:
        self._current = (
            self._traced._operation.use_span() if self._traced._operation else None
        )  # entered and left as a pair
        if self._current is not None:
            self._current.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._current is not None:
            self._current.__exit__(kind, error, trace)
        if error is not None:
            self._traced.finish_operation(error)
