"""The run registry: open operations of a framework that reports starts and ends under run ids of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from opentelemetry import context as otel

from .._guard import guard
from ..tracing.operations.call_context import suppressed
from ..tracing.operations.operation import Live, go, keepers
from ..tracing.operations.records import Observe, Record
from ..tracing.runtime import runtime

_reading = guard("reading an answer")


class Ledger:
    """Open operations by the framework's run id, each open until its end is reported.

    A framework reports starts and ends from any thread or task. The parent of a run is the run that the framework
    names. It is the caller's current span instead if the framework names none, or if the caller is inside that run,
    possibly with spans of its own in between.
    """

    def __init__(self) -> None:
        self._here = otel.create_key("mlspan-run")  # the id of the run that a context is inside
        self._open: dict[Hashable, Live] = {}
        self._before: dict[Hashable, otel.Context] = {}
        self._folded: dict[Hashable, Hashable] = {}
        self.own: Callable[[Hashable], Live | None] = self._open.get  # the operation of an id that is not folded
        keepers.append(self._open.values)

    def __len__(self) -> int:
        return len(self._open) + len(self._before) + len(self._folded)

    def __contains__(self, id: Hashable) -> bool:
        return id in self._open

    def get(self, id: Hashable) -> Live | None:
        """Return the operation of *id*, or of the nearest run above it that has a span; None if there is none."""
        operation = self._open.get(id)
        return self._open.get(self._unfolded(id)) if operation is None and self._folded else operation

    def _unfolded(self, id: Hashable) -> Hashable:
        """Return *id*, or the nearest id above it that has not been folded."""
        while id not in self._open and id in self._folded:
            id = self._folded[id]
        return id

    def here(self) -> Hashable:
        """Return the id of the run whose code the caller is inside, or None outside of any run."""
        return otel.get_value(self._here)

    def fold(self, id: Hashable, parent: Hashable) -> None:
        """Give the run *id* no span: runs below it get *parent* as their parent. It is ended like any other run."""
        self._folded[id] = parent

    def start(
        self,
        id: Hashable,
        record: Record,
        observe: Observe[Any] | None = None,
        *,
        parent: Hashable = None,
        around: otel.Context | None = None,
    ) -> Live | None:
        """Start the operation of the run *id*. Return None if nothing is recorded.

        Args:
            id: the framework's id of the run.
            record: the facts known at the start.
            observe: reads the answer into the record.
            parent: the id of the run that this one is part of.
            around: the caller's context, if it was read already and does not suppress recording.
        """
        if around is None:
            around = otel.get_current()
            if suppressed(around):
                return None
        if (now := runtime()) is None:
            return None
        if parent is not None:
            parent_id = self._unfolded(parent) if self._folded else parent
            if around.get(self._here) != parent_id and (parent_operation := self._open.get(parent_id)) is not None:
                around = parent_operation.context
        operation = self._open[id] = go(now, record, observe, draw=now.starter().draw(around), marks={self._here: id})
        return operation

    def enter(self, id: Hashable) -> None:
        """Make the span of the run *id* current until :meth:`leave_run` in the same thread and task.

        For a folded run, that is the span of the nearest run above it.
        """
        if (operation := self.get(id)) is not None:
            self._before[id] = otel.get_current()
            otel.attach(operation.context)

    def leave(self, id: Hashable) -> None:
        """Undo :meth:`enter_run`. In another task than that of :meth:`enter_run` this does nothing."""
        previous = self._before.pop(id, None) if self._before else None
        if previous is None or (operation := self.get(id)) is None:
            return
        if otel.get_current() is operation.context:
            otel.attach(previous)
            return
        for other, context in list(self._before.items()):  # a run entered later is still entered: it will leave for us
            if context is operation.context:
                self._before[other] = previous
                return

    def end(self, id: Hashable, error: BaseException | None = None, *, stream_end: Any = None) -> None:
        """Leave the run *id* and end its operation."""
        if self._before:
            self.leave(id)
        if self._folded:
            self._folded.pop(id, None)
        if (operation := self._open.pop(id, None)) is not None:
            operation.finish(error, stream_end=stream_end)

    def release(self, id: Hashable) -> Live | None:
        """Leave the run *id* and return its operation.

        A stream or a task will end that, rather than :meth:`end_operation`.
        """
        self.leave(id)
        if (operation := self._open.pop(id, None)) is not None:
            operation.hand_over()
        return operation

    def observe(self, id: Hashable, value: Any) -> None:
        """Read an answer, or a chunk of one, into the record of the run *id*."""
        if (operation := self._open.get(id)) is not None:
            with _reading:
                operation.observe(value)
